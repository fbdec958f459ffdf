"""The paper's figures: what they plot against the raw records, and how they are drawn."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from supermask.errors import ConfigurationError
from supermask.report.drawing import COLUMN_INCHES, MISSING
from supermask.report.figures import FIGURES, StudyFigure, points_csv, study_figure, write_study_figure
from tiny_records import primary, raw, results_of

NAMES = sorted(FIGURES)
TASKS = ("mnli", "qqp", "sst2", "cola", "stsb", "mrpc", "rte")  # those that are recorded
Rows = dict[str, list[dict[str, str]]]


def some_quick(*quick: str) -> list[Any]:
    """The names of all figures, those that are not named marked as slow: laying out takes about a second each."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.fixture(scope="module")
def made(recorded: Path) -> dict[str, StudyFigure]:
    return {name: study_figure(results_of(name, recorded)) for name in NAMES}


@pytest.fixture(scope="module")
def drawn(made: dict[str, StudyFigure]) -> dict[str, Figure]:
    """Every figure, drawn once; not to be changed."""
    return {name: figure.draw() for name, figure in made.items()}


@pytest.fixture(scope="module")
def written(made: dict[str, StudyFigure]) -> Rows:
    """The rows of every figure's CSV."""
    return {name: list(csv.DictReader(io.StringIO(points_csv(figure.points)))) for name, figure in made.items()}


def plotted(figure: Figure) -> set[tuple[float, float]]:
    """All points that lines of a figure go through."""
    found: set[tuple[float, float]] = set()
    for axes in figure.axes:
        for line in axes.get_lines():
            if line.get_transform() == axes.transData and line.get_marker() != "_":  # no ends of error bars
                found |= {(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_one_column_wide_and_holds_text_large_enough(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    assert figure.get_size_inches()[0] == COLUMN_INCHES == 3.3
    assert figure.get_size_inches()[1] <= 9.5
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert texts and min(text.get_fontsize() for text in texts) >= 7


@pytest.mark.parametrize("name", some_quick("figure3", "figure6", "figure7"))
def test_nothing_sticks_out(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    figure.draw_without_rendering()  # which lays it out
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= -0.06 and box.y0 >= -0.06 and box.x1 <= width + 0.06 and box.y1 <= height + 0.06


@pytest.mark.parametrize("name", some_quick("figure9"))
def test_files_are_the_same_every_time(made: dict[str, StudyFigure], tmp_path: Path, name: str) -> None:
    first = write_study_figure(made[name], tmp_path / "first")
    second = write_study_figure(made[name], tmp_path / "second")
    assert [path.name for path in first] == [f"{name}.svg", f"{name}.png", f"{name}.csv"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


@pytest.mark.parametrize("name", NAMES)
def test_without_records_a_figure_says_so(tmp_path: Path, name: str) -> None:
    figure = study_figure(results_of(name, tmp_path))
    assert figure.points == () and figure.missing and figure.records == ()
    said = [text for text in figure.draw().findobj(Text) if text.get_color() == MISSING]
    assert said and all("recorded" in text.get_text() or "measured" in text.get_text() for text in said)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_told(made: dict[str, StudyFigure], recorded: Path, name: str) -> None:
    figure = made[name]
    assert any("QNLI" in phrase for phrase in figure.missing)
    assert figure.records and all((recorded / path).exists() for path in figure.records)
    assert figure.alt.strip().endswith(".") and figure.caption


def test_a_table_is_no_figure(recorded: Path) -> None:
    with pytest.raises(ConfigurationError, match="supermask study table table5"):
        study_figure(results_of("table5", recorded))


# Figures 3, 6 and 8


def test_figure3_against_the_raw_records(recorded: Path, written: Rows) -> None:
    found = written["figure3"]
    at = {(row["task"], row["arm"], row["curve"]): row for row in found if row["seed"] == ""}
    for task in TASKS:
        for level in (0, 20, 40, 70, 90):
            name = "supermask" + (f"-init{level}" if level else "")
            if (task, level) == ("rte", 90):
                continue
            record = raw(recorded, f"{task}/{name}-seed0")
            drawn = primary(record, "sampled_scores")
            mean, hard = (at[task, name, curve] for curve in ("sampled", "thresholded"))
            assert float(mean["score_percent"]) == pytest.approx(100 * statistics.fmean(drawn["values"]))
            assert float(mean["sparsity_percent"]) == pytest.approx(100 * record["sampled_sparsity"])
            assert float(mean["draw_sd"]) == pytest.approx(100 * statistics.stdev(drawn["values"]))
            assert float(hard["score_percent"]) == pytest.approx(100 * primary(record))
            assert float(hard["sparsity_percent"]) == pytest.approx(100 * record["delta"]["sparsity"])
    assert {row["task"] for row in found if row["is_subset"] == "True"} == {"mnli", "qqp"}


def test_baselines_stand_at_the_left_end(recorded: Path, written: Rows) -> None:
    base = [row for row in written["figure3"] if row["curve"] == "baseline" and row["seed"] == ""]
    assert {row["arm"] for row in base} == {"full", "full-lr1e-4"} and {
        float(row["sparsity_percent"]) for row in base
    } == {0}
    mrpc = [100 * primary(raw(recorded, f"mrpc/full-seed{seed}")) for seed in range(3)]
    found = next(row for row in base if (row["task"], row["arm"]) == ("mrpc", "full"))
    assert float(found["score_percent"]) == pytest.approx(statistics.fmean(mrpc))
    assert float(found["seed_sd"]) == pytest.approx(statistics.stdev(mrpc)) and found["seeds"] == "3"


@pytest.mark.parametrize("name", ["figure3", "figure8"])
def test_every_point_of_the_csv_is_plotted_and_no_other(
    recorded: Path, drawn: dict[str, Figure], written: Rows, name: str
) -> None:
    drawn_points, in_file = plotted(drawn[name]), set()
    for row in written[name]:
        place = float(row["sparsity_percent"]), float(row["score_percent"])
        in_file.add(place)
        # A seed alone is its own mean; thresholded seeds and other baselines are not drawn one by one.
        mean, curve = row["seed"] == "", row["curve"]
        if (mean and curve != "baseline") or (not mean and row["seeds"] != "1" and curve != "thresholded"):
            assert place in drawn_points, row
    assert drawn_points <= in_file


def test_figure8_is_of_pruned_models(recorded: Path, written: Rows) -> None:
    found = [row for row in written["figure8"] if row["curve"] != "baseline" and row["seed"] == ""]
    assert {row["curve"] for row in found} == {"pruned"}
    assert {float(row["sparsity_percent"]) for row in found} == {10.0, 30.0, 50.0, 60.0, 80.0, 90.0}


def test_a_small_difference_does_not_fill_a_panel(drawn: dict[str, Figure]) -> None:
    for axes in drawn["figure3"].axes[1:]:
        low, high = axes.get_ylim()
        assert high - low >= 5.99 or not axes.get_lines()
        assert high <= 100


# Figures 2 and 4


@pytest.mark.parametrize(
    ("name", "field", "arm"),
    [("figure2", "l1", "full"), ("figure2", "angular", "full"), ("figure4", "sparsity", "supermask")],
)
def test_places_against_the_raw_measures(recorded: Path, written: Rows, name: str, field: str, arm: str) -> None:
    found = [row for row in written[name] if row["measure"] == field]
    assert len(found) == 7 * 6 * 6
    for task in TASKS:
        of_seeds = [
            {(one["role"], one["block"]): one for one in json.loads(path.read_text())["tensors"]}
            for path in sorted(recorded.glob(f"{task}/{arm}-seed*.measures.json"))
        ]
        for row in (row for row in found if row["task"] == task):
            tensors = [tensors[row["role"], int(row["block"])] for tensors in of_seeds]
            values = [
                100 * one["zeros"] / math.prod(one["shape"]) if field == "sparsity" else one[field] for one in tensors
            ]
            assert float(row["value"]) == pytest.approx(statistics.fmean(values))
            assert int(row["seeds"]) == len(values) and row["arm"] == arm


@pytest.mark.parametrize("name", ["figure2", "figure4"])
def test_places_are_plotted_as_written(recorded: Path, drawn: dict[str, Figure], written: Rows, name: str) -> None:
    points = {(float(row["block"]), float(row["value"])) for row in written[name]}
    assert plotted(drawn[name]) == points


# Figure 5


def test_figure5_against_the_raw_measures(recorded: Path, drawn: dict[str, Figure], written: Rows) -> None:
    found = written["figure5"]
    measures = raw(recorded, "mrpc/supermask-seed0.measures")
    pruned = next(one["pruned"] for one in measures["magnitude_pruning"] if one["scope"] == "global")
    for name, histogram in (
        ("supermask", measures["zeroed"]["histogram"]),
        ("magnitude pruning", pruned["histogram"]),
        ("all masked weights", measures["masked"]["histogram"]),
    ):
        own = [row for row in found if (row["task"], row["weights_of"]) == ("mrpc", name)]
        assert sum(int(row["weights"]) for row in own) == sum(histogram)
        assert sum(float(row["percent"]) for row in own) == pytest.approx(100)
        for row in own:
            if float(row["low"]) > 0 and row["high"]:
                # Four equal bins in each octave from 2^-20; counts[i] is of magnitudes from edge i-1 to edge i.
                octave = math.floor(math.log2(float(row["low"])))
                quarter = round(4 * (float(row["low"]) / 2**octave - 1))
                assert int(row["weights"]) == histogram[4 * (octave + 20) + quarter + 1]
                assert float(row["high"]) == 2**octave * (1 + (quarter + 1) / 4)
                width = math.log2(float(row["high"]) / float(row["low"]))
                assert float(row["percent_per_octave"]) == pytest.approx(float(row["percent"]) / width)
    panel = next(axes for axes in drawn["figure5"].axes if axes.get_title(loc="left") == "MRPC")
    heights = {float(value) for patch in panel.patches for value in patch.get_data().values}  # type: ignore[attr-defined]
    assert heights == {float(row["percent_per_octave"]) for row in found if row["task"] == "mrpc"}


# Figure 7


def cells(axes: Axes) -> dict[tuple[int, int], str]:
    return {
        (round(float(text.get_position()[0])), round(float(text.get_position()[1]))): text.get_text()
        for text in axes.texts
        if text.get_transform() == axes.transData
    }


def test_figure7_against_the_raw_pairs(recorded: Path, drawn: dict[str, Figure], written: Rows) -> None:
    found = {(row["place"], row["task"], row["other"]): row for row in written["figure7"]}
    assert len(found) == 2 * 7 * 6
    pair = raw(recorded, "pairs/cola-supermask-seed0--mrpc-supermask-seed0")
    value = [one for one in pair["tensors"] if (one["role"], one["block"]) == ("value", 0)]
    for place, tensors in (("first block's value matrix", value), ("all masked weights", pair["tensors"])):
        shared = sum(one["shared"] for one in tensors)
        expected = sum(one["first_zeros"] * one["second_zeros"] / one["weights"] for one in tensors)
        for task, other, zeros in (("cola", "mrpc", "first_zeros"), ("mrpc", "cola", "second_zeros")):
            row = found[place, task, other]
            whole = sum(one[zeros] for one in tensors)
            assert float(row["shared_percent"]) == pytest.approx(100 * shared / whole)
            assert float(row["chance_percent"]) == pytest.approx(100 * expected / whole)
            assert float(row["ratio"]) == pytest.approx(shared / expected)
    # Across is the task whose zeros are counted, down the one in whose mask they are looked up.
    order = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")
    learnt = cells(drawn["figure7"].axes[0])
    told = learnt[order.index("cola"), order.index("mrpc")]
    assert float(told) == pytest.approx(
        float(found[("first block's value matrix", "cola", "mrpc")]["shared_percent"]), rel=0.05
    )
    assert learnt[order.index("qnli"), order.index("mrpc")] == "–"
    assert (0, 0) not in learnt


# Figures 9 and 10


def test_figure9_against_the_raw_records(recorded: Path, drawn: dict[str, Figure], written: Rows) -> None:
    found = written["figure9"]
    floor = 1 / (1 + math.exp(5))
    for row in found:
        record = raw(recorded, f"{row['task']}/{row['arm']}-seed0")
        initial = record["inputs"]["method"]["initial_sparsity"]
        if row["mask"] == "sampled":
            start, end = initial * (1 - floor) + (1 - initial) * floor, record["sampled_sparsity"]
        else:
            start, end = initial, record["delta"]["sparsity"]
        assert float(row["initial_percent"]) == pytest.approx(100 * start)
        assert float(row["final_percent"]) == pytest.approx(100 * end)
        assert float(row["change_points"]) == pytest.approx(100 * (end - start), abs=1e-9)
    above, below = drawn["figure9"].axes
    for axes, field in ((above, "final_percent"), (below, "change_points")):
        lines = {(float(x), float(y)) for line in axes.get_lines()[1:] for x, y in zip(*line.get_data(), strict=True)}
        assert lines == {(float(row["initial_percent"]), float(row[field])) for row in found}


def test_figure10_against_the_raw_measures(recorded: Path, drawn: dict[str, Figure], written: Rows) -> None:
    found = written["figure10"]
    roles = ("query", "key", "value", "attention_output")

    def matrices(task: str, arm: str) -> Iterator[dict[str, Any]]:
        for path in recorded.glob(f"{task}/{arm}-seed*.measures.json"):
            yield from (one for one in json.loads(path.read_text())["tensors"] if one["role"] in roles)

    assert len(found) == 2 * 7
    for row in found:
        angles = [one["angular"] for one in matrices(row["task"], row["arm"])]
        assert float(row["angular"]) == pytest.approx(statistics.fmean(angles))
        assert float(row["angular_highest"]) == pytest.approx(max(angles))
        lengths = [one["l1"] for one in matrices(row["task"], row["arm"])]
        assert float(row["l1"]) == pytest.approx(statistics.fmean(lengths))
        assert float(row["steps"]) == raw(recorded, f"{row['task']}/{row['arm']}-seed0")["steps"]
    points = {(float(row["steps"]), float(row[field])) for row in found for field in ("angular", "l1")}
    assert plotted(drawn["figure10"]) == points
