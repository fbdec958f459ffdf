"""The paper's figures: what they plot against the raw records, and how they are drawn."""

import collections
import csv
import io
import itertools
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from supermask.errors import ConfigurationError
from supermask.report.drawing import COLUMN_INCHES, MISSING
from supermask.report.figures import FIGURES, StudyFigure, points_csv, study_figure, write_study_figure
from tiny_records import primary, raw, results_of

NAMES = sorted(FIGURES)
TASKS = ("mnli", "qqp", "sst2", "cola", "stsb", "mrpc", "rte")  # those that are recorded
Rows = dict[str, list[dict[str, Any]]]


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
    """The rows of every figure's CSV, numbers as such."""

    def parsed(text: str) -> Any:
        return float(text) if re.fullmatch(r"-?[\d.]+(e-\d+)?", text) else text

    texts = {name: io.StringIO(points_csv(figure.points)) for name, figure in made.items()}
    return {name: [{k: parsed(v) for k, v in row.items()} for row in csv.DictReader(of)] for name, of in texts.items()}


def plotted(figure: Figure) -> set[tuple[float, float]]:
    """All points that lines of a figure go through."""
    found: set[tuple[float, float]] = set()
    for axes in figure.axes:
        for line in axes.get_lines():
            if line.get_transform() == axes.transData and line.get_marker() != "_":  # no ends of error bars
                found |= {(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)}
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_one_column_wide_with_text_large_enough_and_tells_what_is_missing(
    made: dict[str, StudyFigure], drawn: dict[str, Figure], recorded: Path, name: str
) -> None:
    width, height = drawn[name].get_size_inches()
    assert width == COLUMN_INCHES == 3.3 and height <= 9.5
    texts = [text for text in drawn[name].findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert texts and min(text.get_fontsize() for text in texts) >= 7
    figure = made[name]
    assert any("QNLI" in phrase for phrase in figure.missing)
    assert figure.records and all((recorded / path).exists() for path in figure.records)
    assert figure.alt.strip().endswith(".") and figure.caption


@pytest.mark.parametrize("name", some_quick("figure3", "figure6", "figure7"))
def test_nothing_sticks_out(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    figure.draw_without_rendering()  # which lays it out
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= -0.06 and box.y0 >= -0.06 and box.x1 <= width + 0.06 and box.y1 <= height + 0.06


@pytest.mark.parametrize("name", some_quick("figure9"))
def test_files_are_the_same_every_time(made: dict[str, StudyFigure], tmp_path: Path, name: str) -> None:
    first, second = (write_study_figure(made[name], tmp_path / folder) for folder in ("first", "second"))
    assert [path.name for path in first] == [f"{name}.svg", f"{name}.png", f"{name}.csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("name", NAMES)
def test_without_records_a_figure_says_so(tmp_path: Path, name: str) -> None:
    figure = study_figure(results_of(name, tmp_path))
    assert figure.points == () and figure.missing and figure.records == ()
    said = [text for text in figure.draw().findobj(Text) if text.get_color() == MISSING]
    assert said and all("recorded" in text.get_text() or "measured" in text.get_text() for text in said)


def test_a_table_is_no_figure(recorded: Path) -> None:
    with pytest.raises(ConfigurationError, match="supermask study table table5"):
        study_figure(results_of("table5", recorded))


# Figures 3, 6 and 8


def test_figure3_against_the_raw_records(recorded: Path, written: Rows) -> None:
    found = written["figure3"]
    at = {(row["task"], row["arm"], row["curve"]): row for row in found if row["seed"] == ""}
    levels = ("supermask", *(f"supermask-init{level}" for level in (20, 40, 70, 90)))
    for task, name in itertools.product(TASKS, levels):
        if (task, name) == ("rte", "supermask-init90"):
            continue
        record = raw(recorded, f"{task}/{name}-seed0")
        drawn = [100 * value for value in primary(record, "sampled_scores")["values"]]
        for curve, expected in (
            ("sampled", (statistics.fmean(drawn), 100 * record["sampled_sparsity"])),
            ("thresholded", (100 * primary(record), 100 * record["delta"]["sparsity"])),
        ):
            row = at[task, name, curve]
            assert (row["score_percent"], row["sparsity_percent"]) == pytest.approx(expected)
        assert at[task, name, "sampled"]["draw_sd"] == pytest.approx(statistics.stdev(drawn))
    assert {row["task"] for row in found if row["is_subset"] == "True"} == {"mnli", "qqp"}


def test_baselines_stand_at_the_left_end(recorded: Path, written: Rows) -> None:
    base = [row for row in written["figure3"] if row["curve"] == "baseline" and row["seed"] == ""]
    assert {(row["arm"], row["sparsity_percent"]) for row in base} == {("full", 0), ("full-lr1e-4", 0)}
    mrpc = [100 * primary(raw(recorded, f"mrpc/full-seed{seed}")) for seed in range(3)]
    found = next(row for row in base if (row["task"], row["arm"]) == ("mrpc", "full"))
    spread = statistics.fmean(mrpc), statistics.stdev(mrpc), 3
    assert (found["score_percent"], found["seed_sd"], found["seeds"]) == pytest.approx(spread)


@pytest.mark.parametrize("name", ["figure3", "figure8"])
def test_every_point_of_the_csv_is_plotted_and_no_other(
    recorded: Path, drawn: dict[str, Figure], written: Rows, name: str
) -> None:
    drawn_points, in_file = plotted(drawn[name]), set()
    for row in written[name]:
        place = row["sparsity_percent"], row["score_percent"]
        in_file.add(place)
        # A seed alone is its own mean; thresholded seeds and other baselines are not drawn one by one.
        mean, curve = row["seed"] == "", row["curve"]
        if (mean and curve != "baseline") or (not mean and row["seeds"] != 1 and curve != "thresholded"):
            assert place in drawn_points, row
    assert drawn_points <= in_file


def test_figure8_is_of_pruned_models(recorded: Path, written: Rows) -> None:
    found = [row for row in written["figure8"] if row["curve"] != "baseline" and row["seed"] == ""]
    assert {row["curve"] for row in found} == {"pruned"}
    assert {row["sparsity_percent"] for row in found} == {10.0, 30.0, 50.0, 60.0, 80.0, 90.0}


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
        values: dict[tuple[str, int], list[float]] = collections.defaultdict(list)
        for path in sorted(recorded.glob(f"{task}/{arm}-seed*.measures.json")):
            for one in json.loads(path.read_text())["tensors"]:
                share = 100 * one["zeros"] / math.prod(one["shape"]) if field == "sparsity" else one[field]
                values[one["role"], one["block"]].append(share)
        for row in (row for row in found if row["task"] == task):
            here = values[row["role"], row["block"]]
            assert row["value"] == pytest.approx(statistics.fmean(here))
            assert row["seeds"] == len(here) and row["arm"] == arm


@pytest.mark.parametrize("name", ["figure2", "figure4"])
def test_places_are_plotted_as_written(recorded: Path, drawn: dict[str, Figure], written: Rows, name: str) -> None:
    points = {(row["block"], row["value"]) for row in written[name]}
    assert plotted(drawn[name]) == points


# Figure 5


def test_figure5_against_the_raw_measures(recorded: Path, drawn: dict[str, Figure], written: Rows) -> None:
    found = written["figure5"]
    measures = raw(recorded, "mrpc/supermask-seed0.measures")
    pruned = next(one["pruned"] for one in measures["magnitude_pruning"] if one["scope"] == "global")
    parts = {"supermask": measures["zeroed"], "magnitude pruning": pruned, "all masked weights": measures["masked"]}
    for name, histogram in ((name, part["histogram"]) for name, part in parts.items()):
        own = [row for row in found if (row["task"], row["weights_of"]) == ("mrpc", name)]
        assert sum(row["weights"] for row in own) == sum(histogram)
        assert sum(row["percent"] for row in own) == pytest.approx(100)
        for row in own:
            low, high = row["low"], row["high"]
            if low > 0 and high:
                # Four equal bins in each octave from 2^-20; counts[i] is of magnitudes from edge i-1 to edge i.
                octave = math.floor(math.log2(low))
                quarter = round(4 * (low / 2**octave - 1))
                assert row["weights"] == histogram[4 * (octave + 20) + quarter + 1]
                assert high == 2**octave * (1 + (quarter + 1) / 4)
                assert row["percent_per_octave"] == pytest.approx(row["percent"] / math.log2(high / low))
    panel = next(axes for axes in drawn["figure5"].axes if axes.get_title(loc="left") == "MRPC")
    heights = {float(value) for patch in panel.patches for value in patch.get_data().values}  # type: ignore[attr-defined]
    assert heights == {row["percent_per_octave"] for row in found if row["task"] == "mrpc"}


# Figure 7


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
            percent = 100 * shared / whole, 100 * expected / whole, shared / expected
            assert (row["shared_percent"], row["chance_percent"], row["ratio"]) == pytest.approx(percent)
    # Across is the task whose zeros are counted, down the one in whose mask they are looked up.
    order = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")
    axes = drawn["figure7"].axes[0]
    texts = [text for text in axes.texts if text.get_transform() == axes.transData]
    learnt = {tuple(order[round(float(at))] for at in text.get_position()): text.get_text() for text in texts}
    shared = found["first block's value matrix", "cola", "mrpc"]["shared_percent"]
    assert float(learnt["cola", "mrpc"]) == pytest.approx(shared, rel=0.05)
    assert learnt["qnli", "mrpc"] == "–" and ("mnli", "mnli") not in learnt


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
        moved = row["initial_percent"], row["final_percent"], row["change_points"]
        assert moved == pytest.approx((100 * start, 100 * end, 100 * (end - start)), abs=1e-9)
    above, below = drawn["figure9"].axes
    for axes, field in ((above, "final_percent"), (below, "change_points")):
        lines = {(float(x), float(y)) for line in axes.get_lines()[1:] for x, y in zip(*line.get_data(), strict=True)}
        assert lines == {(row["initial_percent"], float(row[field])) for row in found}


def test_figure10_against_the_raw_measures(recorded: Path, drawn: dict[str, Figure], written: Rows) -> None:
    found = written["figure10"]
    roles = ("query", "key", "value", "attention_output")
    assert len(found) == 2 * 7
    for row in found:
        paths = recorded.glob(f"{row['task']}/{row['arm']}-seed*.measures.json")
        tensors = [one for path in paths for one in json.loads(path.read_text())["tensors"] if one["role"] in roles]
        for field in ("angular", "l1"):
            values = [one[field] for one in tensors]
            ends = statistics.fmean(values), min(values), max(values)
            assert (row[field], row[f"{field}_lowest"], row[f"{field}_highest"]) == pytest.approx(ends)
        assert row["steps"] == raw(recorded, f"{row['task']}/{row['arm']}-seed0")["steps"]
    points = {(row["steps"], float(row[field])) for row in found for field in ("angular", "l1")}
    assert plotted(drawn["figure10"]) == points
