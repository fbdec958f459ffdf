import pytest

from supermask.errors import UnknownNameError
from supermask.tasks.glue import GLUE_ROWS, GLUE_TASKS, glue_row

# Sizes counted in the official files, in the order of the splits.
OFFICIAL = {
    "cola": ((8551, 1043, 1063), ("matthews", "accuracy")),
    "sst2": ((67349, 872, 1821), ("accuracy",)),
    "mrpc": ((3668, 408, 1725), ("f1", "accuracy")),
    "stsb": ((5749, 1500, 1379), ("spearman", "pearson")),
    "qqp": ((363846, 40430, 390965), ("f1", "accuracy")),
    "mnli": ((392702, 9815, 9832, 9796, 9847), ("accuracy",)),
    "qnli": ((104743, 5463, 5463), ("accuracy",)),
    "rte": ((2490, 277, 3000), ("accuracy",)),
}


def test_the_eight_tasks_are_there_with_official_sizes_and_metrics():
    rows = {task.name: (tuple(task.expected_sizes.values()), task.metrics) for task in GLUE_TASKS}
    assert rows == OFFICIAL


@pytest.mark.parametrize("row", GLUE_ROWS, ids=lambda row: row.task.name)
def test_a_row_is_consistent(row):
    task = row.task
    assert tuple(task.expected_sizes) == tuple(row.files) == tuple(row.hub_splits) == task.splits
    assert tuple(task.submission_files) == task.test_splits
    assert (row.second is not None) == (row.hub_second is not None) == task.paired
    assert len(row.label_texts) == len(task.label_names)
    assert task.title and task.version >= 1
    if row.labelled_header:
        assert {row.first, row.label} <= set(row.labelled_header)


def test_the_order_of_classes_is_that_of_the_hub():
    names = {task.name: task.label_names for task in GLUE_TASKS}
    assert names["mnli"] == ("entailment", "neutral", "contradiction")
    assert names["rte"] == names["qnli"] == ("entailment", "not_entailment")
    assert names["cola"] == ("unacceptable", "acceptable")
    assert names["sst2"] == ("negative", "positive")
    # F1 is of class 1: the paraphrases.
    assert names["mrpc"] == ("not_equivalent", "equivalent")
    assert names["qqp"] == ("not_duplicate", "duplicate")


def test_a_task_is_found_by_any_usual_spelling_and_another_name_lists_those_that_are():
    assert {glue_row(name).task.name for name in ("sts-b", "STS-B", "stsb", "STSB", "sts_b")} == {"stsb"}
    with pytest.raises(
        UnknownNameError, match="'glue' is no GLUE task; these are: cola, sst2, mrpc, stsb, qqp, mnli, q"
    ):
        glue_row("glue")
