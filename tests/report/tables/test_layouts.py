"""The layout of each table, and its numbers against the raw JSON of the records."""

import math
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from supermask.report.results import collect
from supermask.report.tables import Table, study_table
from supermask.report.tables.table import TableColumn
from supermask.study import RecordStore, load_study, overridden
from tiny_records import fill, placed, primary, raw, results_of, scored, tiny_record

TASKS = ("mnli", "qqp", "qnli", "sst2", "cola", "stsb", "mrpc", "rte")


# Table 5


@pytest.fixture
def table5(recorded: Path) -> Table:
    return study_table(results_of("table5", recorded))


def test_table5_has_the_papers_columns_and_labels_subsets(table5: Table) -> None:
    titles = ("MNLI", "QQP", "QNLI", "SST-2", "CoLA", "STS-B", "MRPC", "RTE")
    metrics = ("accuracy, subset", "F1, subset", "accuracy", "accuracy", "Matthews", "Spearman", "F1", "accuracy")
    assert table5.columns == tuple(map(TableColumn, TASKS, titles, metrics))


@pytest.mark.parametrize("task", [task for task in TASKS if task != "qnli"])
def test_table5_against_the_raw_records(recorded: Path, table5: Table, task: str) -> None:
    mask, other = (raw(recorded, f"{task}/{arm}-seed0") for arm in ("supermask", "full-lr1e-4"))
    draws = [100 * value for value in primary(mask, "sampled_scores")["values"]]
    seeds = 3 if task == "mrpc" else 1  # Table 3 has more of them, and they are taken in
    base = [100 * primary(raw(recorded, f"{task}/full-seed{seed}")) for seed in range(seeds)]
    baseline = placed(table5, "full.score", task)
    assert baseline.seeds == seeds and baseline.records == tuple(f"{task}/full-seed{n}.json" for n in range(seeds))
    for row, value in {
        "full.score": statistics.fmean(base),
        "full-lr1e-4.score": 100 * primary(other),
        "supermask.sampled": statistics.fmean(draws),
        "supermask.draw_sd": statistics.stdev(draws),
        "supermask.thresholded": 100 * primary(mask),
        "supermask.less.full": statistics.fmean(draws) - statistics.fmean(base),
        "supermask.sparsity.sampled": 100 * mask["sampled_sparsity"],
        "supermask.sparsity.thresholded": 100 * mask["delta"]["sparsity"],
    }.items():
        found = placed(table5, row, task)
        shown = f"{value:.2f}%" if "sparsity" in row else f"{value:.1f}".replace("-", "−")
        assert found.value == pytest.approx(value) and shown in found.text, row


def test_table5_has_both_splits_of_mnli(recorded: Path, table5: Table) -> None:
    both = raw(recorded, "mnli/supermask-seed0")["scores"]
    texts = [f"{100 * both[f'dev_{name}']['accuracy']:.1f}" for name in ("matched", "mismatched")]
    assert placed(table5, "supermask.thresholded", "mnli").text == " / ".join(texts)


PAPERS = {
    "table3": {("mrpc.full", "score"): "89.4 ± 0.7", ("mrpc.freezing-1", "parameters"): "102M float, 94%"},
    "table4": {("overlap", "mnli"): "11.1%", ("pruned_max", "mnli"): "0.0093"},
    "table5": {("supermask.sampled", "mnli"): "81.5 / 82.9"},
    "table6": {
        ("mrpc.sampled", "supermask"): "91.3",
        ("mrpc.sampled", "supermask-lr2e-02"): "82.0",
        **{("mrpc.sampled", f"supermask-lr2e-0{digit}"): "0.0" for digit in (3, 4, 5)},
    },
    "appendix-a": {("mrpc.head-only", "score"): "81.2", ("mrpc.full", "score"): "89.4 ± 0.7"},
}


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_numbers_stand_beside_ours(recorded: Path, name: str) -> None:
    table = study_table(results_of(name, recorded))
    assert {place: placed(table, *place).paper for place in PAPERS[name]} == PAPERS[name]


def test_table5_has_the_papers_numbers(table5: Table) -> None:
    def papers(row: str) -> list[float | None]:
        return [placed(table5, row, task).paper_value for task in TASKS]

    assert papers("full.score") == pytest.approx([84.3, 88.5, 91.6, 92.7, 55.2, 88.5, 90.7, 67.1])
    assert papers("supermask.sampled") == pytest.approx([81.5, 87.2, 89.8, 91.3, 50.8, 88.2, 91.3, 68.8])
    assert papers("supermask.draw_sd") == pytest.approx([0.1, 0.1, 0.1, 0.2, 0.8, 0.1, 0.4, 1.0])
    assert papers("supermask.sparsity.sampled") == pytest.approx([12.9, 12.6, 10.3, 7.4, 2.9, 2.2, 1.3, 1.0])
    assert papers("supermask.less.full") == pytest.approx([-2.8, -1.3, -1.8, -1.4, -4.4, -0.3, 0.6, 1.7])


def test_table5_shows_what_is_missing(table5: Table) -> None:
    for row in table5.rows:
        found = row.cells[TASKS.index("qnli")]
        if row.key != "seeds":
            assert found.state == "missing" and found.value is None, row.label
            assert any(name.startswith("qnli/") for name in found.missing)
    assert placed(table5, "seeds", "qnli").text == "0 / 0 / 0"
    assert table5.missing == ("full, full-lr1e-4, supermask: QNLI (seed 0)",)
    subsets = [note for note in table5.notes if "subset: " in note]
    assert len(subsets) == 2 and subsets[0] == "MNLI is a subset: 9,817 of 392,702 train examples."


def by_seed(folder: Path, masks: list[float], baselines: list[float]) -> Table:
    """Table 5 on MRPC, a seed each, with just these F1; draws do not differ."""
    study = overridden(load_study("table5"), tasks=["mrpc"], seeds=range(len(masks)))
    scores = {"supermask": masks}
    fill(folder, [study], change=lambda run, one: scored(one, scores.get(run.arm, baselines)[run.seed]), measured=False)
    return study_table(results_of("table5", folder))


@pytest.mark.parametrize(
    ("masks", "baselines", "expected"),
    [
        ([0.85, 0.84, 0.86], [0.84, 0.85, 0.83], []),
        ([0.86, 0.87, 0.88], [0.80, 0.81, 0.82], ["supermask.sampled"]),
        ([0.80, 0.81, 0.82], [0.86, 0.87, 0.885], ["full.score"]),
        ([0.99], [0.50], []),  # one run does not show its own spread
    ],
)
def test_bold_stands_only_beyond_the_spread_between_seeds(
    tmp_path: Path, masks: list[float], baselines: list[float], expected: list[str]
) -> None:
    placed = by_seed(tmp_path / "minilm-l6", masks, baselines).placed()
    assert [row.key for row, column, found in placed if column.key == "mrpc" and found.strong] == expected


def test_an_interval_stands_where_seeds_allow_one(tmp_path: Path) -> None:
    masks, baselines = [0.850, 0.842, 0.861], [0.840, 0.845, 0.835]
    found = placed(by_seed(tmp_path / "minilm-l6", masks, baselines), "supermask.less.full", "mrpc")
    interval = stats.ttest_rel(*(100 * np.array(scores) for scores in (masks, baselines))).confidence_interval()
    numbers = [float(number.replace("−", "-")) for number in re.findall(r"[+−]?\d+\.\d", found.text)]
    assert numbers == pytest.approx([1.1, interval.low, interval.high], abs=0.051)
    alone = by_seed(tmp_path / "alone" / "minilm-l6", [0.85], [0.84])
    assert placed(alone, "supermask.less.full", "mrpc").text == "+1.0"


# Table 1


def test_table1_is_computed_and_equals_the_paper(recorded: Path) -> None:
    table = study_table(results_of("table1", recorded))
    sizes = (392702, 363846, 104743, 67349, 8551, 5749, 3668, 2490)
    for task, size in zip(TASKS, sizes, strict=True):
        steps = placed(table, "steps", task)
        assert steps.value == 3 * math.ceil(size / 32) == steps.paper_value
        labels = {"mnli": 3, "stsb": 1}.get(task, 2)
        weights = placed(table, "additional_parameters", task)
        assert weights.value == 768 * labels == weights.paper_value
    assert "All counts are the paper's." in table.notes[0]
    assert placed(table, "supermask.steps", "mnli").value == raw(recorded, "mnli/supermask-seed0")["steps"]
    assert placed(table, "supermask.steps", "qnli").state == "missing"


def test_table1_needs_no_training(tmp_path: Path) -> None:
    rows = study_table(results_of("table1", tmp_path)).rows
    assert [{found.state for found in row.cells} for row in rows] == [{"whole"}] * 2 + [{"missing"}] * (len(rows) - 2)


# Tables 3 and 4, from measures


def test_table3_against_the_raw_records(recorded: Path) -> None:
    table = study_table(results_of("table3", recorded))
    assert [row.key.removeprefix("mrpc.") for row in table.rows] == [
        *("full", "freezing-1", "freezing-2", "freezing-3", "freezing-1-2-3"),
        *("supermask-123-init30", "supermask-123-init40"),
    ]
    sizes = {}
    for row in table.rows:
        name = row.key.removeprefix("mrpc.")
        records = [raw(recorded, f"mrpc/{name}-seed{seed}") for seed in range(3)]
        masks = name.startswith("supermask")
        values = [100 * (primary(one, "sampled_scores")["mean"] if masks else primary(one)) for one in records]
        ours = placed(table, row.key, "score")
        assert ours.text == f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
        assert (ours.seeds, ours.state) == (3, "partial") and len(ours.missing) == 7
        assert placed(table, row.key, "seeds").text == "3 of 10"
        tensors = raw(recorded, f"mrpc/{name}-seed0.measures")["tensors"]
        sizes[name] = sum(math.prod(tensor["shape"]) for tensor in tensors)
        parameters = placed(table, row.key, "parameters")
        assert parameters.value == sizes[name]
        kind = "binary" if masks else "float"
        assert parameters.text.endswith(f"{kind}, {100 * sizes[name] / sizes['full']:.0f}%")
    assert placed(table, "mrpc.full", "difference").state == "empty"


def test_table3_without_measures_says_so(tmp_path: Path) -> None:
    fill(tmp_path / "minilm-l6", [load_study("table3")], leave_out=lambda run: run.seed > 0, measured=False)
    table = study_table(results_of("table3", tmp_path / "minilm-l6"))
    assert placed(table, "mrpc.full", "parameters").missing == ("mrpc/full-seed0 (measures)",)
    assert placed(table, "mrpc.supermask-123-init30", "parameters").text.endswith("M binary")


def test_table4_against_the_raw_measures(recorded: Path) -> None:
    table = study_table(results_of("table4", recorded))
    for task in TASKS:
        if task == "qnli":
            assert all(placed(table, row.key, task).state == "missing" for row in table.rows)
            continue
        found = raw(recorded, f"{task}/supermask-seed0.measures")
        pruned = next(one for one in found["magnitude_pruning"] if one["scope"] == "global")
        assert placed(table, "pruned_max", task).value == pruned["pruned"]["max"]
        assert placed(table, "supermask_mean", task).value == found["zeroed"]["mean"]
        overlap = 100 * pruned["shared"] / pruned["pruned"]["weights"]
        assert placed(table, "overlap", task).value == pytest.approx(overlap)
        assert placed(table, "overlap", task).text == f"{overlap:.1f}%"


# Table 6, Appendix A, our own


def test_table6_has_a_column_a_learning_rate(recorded: Path) -> None:
    table = study_table(results_of("table6", recorded))
    assert [column.key for column in table.columns] == [arm.name for arm in load_study("table6").arms]
    for name in (column.key for column in table.columns):
        record = raw(recorded, f"mrpc/{name}-seed0")
        drawn = 100 * primary(record, "sampled_scores")["mean"]
        assert placed(table, "mrpc.sampled", name).value == pytest.approx(drawn)
        assert placed(table, "mrpc.sparsity.thresholded", name).text == f"{100 * record['delta']['sparsity']:.2f}%"


def test_appendix_a_tells_runs_that_answer_one_class(tmp_path: Path) -> None:
    positives = 279 / 408

    ones = {"f1": 2 * positives / (1 + positives), "accuracy": positives}

    def change(run: Any, record: Any) -> Any:
        scores = {"dev": {"f1": 0.80, "accuracy": 0.70} if run.seed == 2 else ones}
        return record.model_copy(update={"scores": scores}) if run.arm == "head-only" else record

    folder = tmp_path / "minilm-l6"
    fill(folder, [load_study("appendix-a")], leave_out=lambda run: run.seed > 2, change=change, measured=False)
    table = study_table(results_of("appendix-a", folder))
    assert placed(table, "mrpc.head-only", "one_class").text == "2 of 3"
    assert placed(table, "mrpc.head-only", "score").text.startswith("80.8 ± 0.7")  # 81.22, 81.22 and 80


def test_conventions_shows_both_masks_and_both_sparsities(recorded: Path) -> None:
    table = study_table(results_of("conventions", recorded))
    assert len(table.rows) == 10 and len(table.columns) == 6
    record = raw(recorded, "mrpc/supermask-stop-eps1e-06-seed0")
    row = "mrpc.supermask-stop-eps1e-06"
    assert placed(table, row, "sparsity.sampled").text == f"{100 * record['sampled_sparsity']:.2f}%"
    assert placed(table, row, "score").value == pytest.approx(100 * primary(record))


# Records that are not as they should be


def test_failed_and_unreadable_records_are_missing_cells(tmp_path: Path) -> None:
    folder, study, failing = tmp_path / "minilm-l6", load_study("table6"), "supermask-lr2e-02"
    fill(folder, [study], change=lambda run, one: tiny_record(run, status="failed") if run.arm == failing else one)
    path = folder / "mrpc" / "supermask-lr2e-03-seed0.json"
    path.write_text(re.sub(r'"scores":\{"dev":\{"f1":[\d.]+', '"scores":{"dev":{"f1":NaN', path.read_text()))
    (folder / "mrpc" / "supermask-lr2e-04-seed0.json").write_text("{")
    store = RecordStore(folder)
    assert len(store.skipped) == 2
    table = study_table(collect(study, store))
    arms = ("supermask", "supermask-lr2e-02", "supermask-lr2e-03", "supermask-lr2e-04")
    assert [placed(table, "mrpc.sampled", arm).state for arm in arms] == ["whole", "missing", "missing", "missing"]


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "table5", "table6", "appendix-a", "figure3"])
def test_no_records_at_all(tmp_path: Path, name: str) -> None:
    table = study_table(results_of(name, tmp_path))
    assert table.missing and table.rows
    assert {found.state for _, _, found in table.placed()} >= {"missing"}


def test_several_tasks_get_rows_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "minilm-l6"
    study = overridden(load_study("table3"), tasks=["mrpc", "rte"], seeds=[0])
    fill(folder, [study])
    table = study_table(collect(study, RecordStore(folder)))
    assert [row.label.split(":")[0] for row in table.rows] == ["MRPC"] * 7 + ["RTE"] * 7
    assert placed(table, "rte.full", "score").paper is None
