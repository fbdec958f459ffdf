import numpy as np
import pytest

from supermask.errors import ConfigurationError, DataError, OutputError
from supermask.tasks import Task, write_submission
from supermask.tasks.glue import GLUE_TASKS, glue_row


@pytest.mark.parametrize(
    ("name", "predictions", "expected"),
    [
        ("cola", [1, 0], "1 0"),
        ("sst2", [1, 0], "1 0"),
        ("mrpc", [1, 0], "1 0"),
        ("qqp", [1, 0], "1 0"),
        ("rte", [1, 0], "not_entailment entailment"),
        ("qnli", [1, 0], "not_entailment entailment"),
        ("stsb", [-0.25, 5.5], "0.000 5.000"),
        ("stsb", [1.23456, 4.9996], "1.235 5.000"),
    ],
)
def test_predictions_are_written_as_the_benchmark_writes_them(tmp_path, name, predictions, expected):
    path = write_submission(glue_row(name).task, "test", predictions, tmp_path / "new" / "folder", ids=("0", "7"))
    first, second = expected.split()
    assert path.read_bytes().decode() == f"index\tprediction\n0\t{first}\n7\t{second}\n"


def test_the_file_names_are_those_of_the_server_and_mnli_has_one_for_each_test_set(tmp_path):
    mnli = glue_row("mnli").task
    matched = write_submission(mnli, "test_matched", [0, 1, 2], tmp_path, ids=("0", "1", "2"))
    mismatched = write_submission(mnli, "test_mismatched", np.array([2, 2]), tmp_path, ids=("0", "1"))
    assert (matched.name, mismatched.name) == ("MNLI-m.tsv", "MNLI-mm.tsv")
    assert matched.read_text().split()[2:] == ["0", "entailment", "1", "neutral", "2", "contradiction"]
    names = {file for task in GLUE_TASKS for file in task.submission_files.values()}
    assert names == {f"{n}.tsv" for n in ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE"]}


@pytest.mark.parametrize(
    ("name", "predictions", "ids", "message"),
    [
        ("rte", [0, 1], ("0",), "2 predictions for 1 ids"),
        ("rte", [], (), "0 predictions for 0 ids"),
        ("rte", [0, 1], ("3", "3"), "stands twice"),
        ("rte", [2], ("0",), "prediction 0 of the task 'rte' is 2, not a class index from 0 to 1"),
        ("rte", [0.5], ("0",), "0.5, not a class index"),
        ("stsb", [1.0, float("nan")], ("0", "1"), "prediction 1 of the task 'stsb' is nan"),
    ],
)
def test_what_is_no_prediction_is_refused_and_nothing_written(tmp_path, name, predictions, ids, message):
    with pytest.raises(DataError, match=message):
        write_submission(glue_row(name).task, "test", predictions, tmp_path, ids=ids)
    assert list(tmp_path.iterdir()) == []


def test_a_split_without_a_place_in_the_submission_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"'dev' of the task 'mnli' .* test_matched, test_mismatched"):
        write_submission(glue_row("mnli").task, "dev", [0], tmp_path, ids=("0",))
    own = Task(name="own", kind="classification", label_names=("a", "b"), metrics=("accuracy",), test_splits=("test",))
    with pytest.raises(ConfigurationError, match="those that do: none"):
        write_submission(own, "test", [0], tmp_path, ids=("0",))


def test_an_existing_file_stays_unless_told_otherwise(tmp_path):
    task = glue_row("rte").task
    path = write_submission(task, "test", [0], tmp_path, ids=("0",))
    with pytest.raises(OutputError, match="exists"):
        write_submission(task, "test", [1], tmp_path, ids=("0",))
    assert path.read_text().endswith("\tentailment\n")
    write_submission(task, "test", [1], tmp_path, ids=("0",), overwrite=True)
    assert path.read_text().endswith("\tnot_entailment\n")
