import copy
import dataclasses
import json
import pickle

import pytest

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.tasks import Examples, Task, TaskData

MOOD = Task(name="mood", kind="classification", label_names=("bad", "good"), metrics=("accuracy", "f1"))
GRADE = Task(
    name="grade", kind="regression", label_names=(), metrics=("spearman",), paired=True, score_range=(0.0, 5.0)
)


def rows(count: int) -> Examples:
    return Examples(
        first=tuple(f"row {i}" for i in range(count)),
        second=None,
        labels=tuple(i % 2 for i in range(count)),
        ids=tuple(map(str, range(count))),
        source="by hand",
    )


def test_a_task_knows_its_outputs_and_splits():
    assert (MOOD.num_labels, MOOD.primary_metric, MOOD.regression) == (2, "accuracy", False)
    assert (GRADE.num_labels, GRADE.primary_metric, GRADE.regression) == (1, "spearman", True)
    task = dataclasses.replace(MOOD, report_splits=("dev_a", "dev_b"), test_splits=("test",))
    assert task.splits == ("train", "dev_a", "dev_b", "test")


def test_a_task_is_hashable_picklable_goes_into_a_record_and_does_not_follow_the_callers_mapping():
    sizes = {"train": 3}
    task = dataclasses.replace(MOOD, expected_sizes=sizes)
    sizes["train"] = 4
    assert hash(task) == hash(copy.deepcopy(task))
    assert pickle.loads(pickle.dumps(task)) == task
    assert json.loads(json.dumps(dataclasses.asdict(task)))["expected_sizes"] == {"train": 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "the name is empty"),
        ({"label_names": ("only",)}, "at least 2 labels"),
        ({"label_names": ("a", "a")}, "named twice"),
        ({"label_names": ("a", "b", "c")}, "use macro_f1"),
        ({"metrics": ("pearson",)}, r"\['pearson'\] are not of a classification task; there are: accuracy"),
        ({"metrics": ()}, "at least one"),
        ({"metrics": ("f1", "f1")}, "distinct"),
        ({"kind": "ranking"}, "neither 'classification' nor 'regression'"),
        ({"score_range": (0.0, 1.0)}, "only a regression task"),
        ({"report_splits": ("train",)}, "a split is named twice"),
        ({"submission_labels": ("0",)}, "1 submission labels for 2"),
        ({"kind": "regression", "metrics": ("spearman",)}, "no label names"),
        ({"kind": "regression", "label_names": (), "metrics": ("spearman",), "score_range": (1, 1)}, "is empty"),
    ],
)
def test_a_contradictory_task_is_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(MOOD, **changes)


def test_all_faults_of_a_task_are_told_together():
    with pytest.raises(ConfigurationError, match=r"at least 2 labels.*\['pearson'\]"):
        Task(name="x", kind="classification", label_names=(), metrics=("pearson",))


def test_columns_are_of_one_length_and_subset_and_take_keep_rows_together():
    examples = Examples(("a", "b", "c"), ("x", "y", "z"), (0.5, 1.5, 2.5), ("7", "8", "9"), source="s", skipped=2)
    part = examples.subset([2, 0])
    assert part == Examples(("c", "a"), ("z", "x"), (2.5, 0.5), ("9", "7"), source="s", skipped=2)
    assert examples.take(2) == examples.subset([0, 1])
    assert len(examples.take(99)) == 3
    with pytest.raises(ConfigurationError, match="position 3 is outside the 3"):
        examples.subset([0, 3])
    with pytest.raises(ConfigurationError, match="position -1"):
        examples.subset([-1])
    with pytest.raises(ConfigurationError, match="at least 1"):
        examples.take(0)
    with pytest.raises(ConfigurationError, match="2 first, but 1 second, 3 ids"):
        Examples(("a", "b"), ("c",), (0, 1), ("0", "1", "2"))
    assert repr(rows(1000)) == "Examples(1000 rows of 'by hand')", "the rows are left out"


def test_the_content_hash_is_of_sentences_and_labels_alone():
    examples = Examples(("ab", "c"), None, (0, 1), ("0", "1"), source="here")
    same = Examples(("ab", "c"), None, (0, 1), ("5", "6"), source="there", skipped=3)
    assert examples.content_hash == same.content_hash
    others = [
        Examples(("a", "bc"), None, (0, 1), ("0", "1")),
        Examples(("ab", "c"), None, (1, 0), ("0", "1")),
        Examples(("ab", "c"), None, (0.0, 1.0), ("0", "1")),
        Examples(("ab", "c"), None, None, ("0", "1")),
        Examples(("c", "ab"), None, (1, 0), ("0", "1")),
        Examples(("ab", "c"), ("", ""), (0, 1), ("0", "1")),
        Examples(("ab",), None, (0,), ("0",)),
    ]
    assert len({examples.content_hash, *(other.content_hash for other in others)}) == 8


def test_the_content_hash_does_not_change_between_releases():
    examples = Examples(("caf\u00e9",), ("b",), (0.5,), ("0",))
    # Each value is its length in 8 bytes, then type and text:
    # printf '\x09\0\0\0\0\0\0\0str:caf\xc3\xa9\x05\0\0\0\0\0\0\0str:b\x09\0\0\0\0\0\0\0float:0.5' | sha256sum
    assert examples.content_hash == "a2cbff3058360bab20bcc415e170ff9d83c6714ffbcff63b515c88c9c79a955f"


@pytest.mark.parametrize(("choice", "held"), [({"count": 7}, 7), ({"fraction": 0.25}, 25), ({"fraction": 0.001}, 1)])
def test_a_holdout_cuts_the_examples_in_two(choice, held):
    examples = rows(100)
    kept, held_out = examples.holdout(**choice, seed=3)
    assert (len(kept), len(held_out)) == (100 - held, held)
    assert sorted(kept.ids + held_out.ids, key=int) == list(examples.ids)
    assert list(kept.ids) == sorted(kept.ids, key=int)
    assert list(held_out.ids) == sorted(held_out.ids, key=int)
    # The same everywhere, and another for another seed.
    zero, one = (rows(50).holdout(count=5, seed=seed)[1].ids for seed in (0, 1))
    assert zero == ("15", "20", "36", "44", "46") != one


@pytest.mark.parametrize(
    "choice", [{}, {"count": 3, "fraction": 0.5}, {"count": 0}, {"count": 10}, {"fraction": 1.0}, {"fraction": 0.0}]
)
def test_an_impossible_holdout_is_refused(choice):
    with pytest.raises(ConfigurationError):
        rows(10).holdout(**choice)


def test_task_data_gives_splits_by_name():
    data = TaskData(dataclasses.replace(MOOD, test_splits=("test",)), {"train": rows(4), "dev": rows(2)})
    assert data.train is data["train"]
    assert "dev" in data and "test" not in data
    assert list(data.report) == ["dev"] and data.test == {}
    two = dataclasses.replace(MOOD, report_splits=("dev_a", "dev_b"))
    assert list(TaskData(two, {"dev_b": rows(2), "dev_a": rows(2)}).report) == ["dev_a", "dev_b"], "in the task's order"
    assert data.content_hashes == {"train": rows(4).content_hash, "dev": rows(2).content_hash}
    with pytest.raises(UnknownNameError, match="no split 'test' here; loaded are: train, dev"):
        data["test"]


def test_a_holdout_of_the_data_has_no_official_split():
    task = dataclasses.replace(MOOD, test_splits=("test",), expected_sizes={"train": 10})
    data = TaskData(task, {"train": rows(10), "dev": rows(4)})
    tuning = data.holdout(count=3)
    assert list(tuning.splits) == ["train", "validation"]
    assert list(tuning.report) == ["validation"]
    assert (len(tuning.train), len(tuning["validation"])) == (7, 3)
    assert tuning.notes == ()


def test_with_split_replaces_one_split():
    data = TaskData(MOOD, {"train": rows(10), "dev": rows(4)})
    smaller = data.with_split("train", data.train.take(2))
    assert (len(smaller.train), len(smaller["dev"]), len(data.train)) == (2, 4, 10)
    with pytest.raises(UnknownNameError, match="no split 'development'; splits are: train, dev"):
        data.with_split("development", rows(2))


def test_notes_tell_of_subsets_and_of_rows_left_out():
    task = dataclasses.replace(MOOD, expected_sizes={"train": 10, "dev": 4})
    train = dataclasses.replace(rows(9), skipped=1, skip_reasons=("1 broken row of train.tsv left out",))
    data = TaskData(task, {"train": train, "dev": rows(4)})
    assert data.notes == (
        "mood train: 9 examples, the official split has 10",
        "mood train: 1 broken row of train.tsv left out",
    )


@pytest.mark.parametrize(
    ("task", "split", "examples", "message"),
    [
        (MOOD, "dev", Examples((), None, (), ()), "no examples"),
        (MOOD, "holdout", rows(2), "no such split; splits are: train, dev"),
        (MOOD, "dev", Examples(("a",), ("b",), (0,), ("0",)), "single sentences"),
        (GRADE, "dev", Examples(("a",), None, (1.0,), ("0",)), "pairs"),
        (MOOD, "dev", Examples(("a",), None, None, ("0",)), "no labels"),
        (MOOD, "dev", Examples(("a",), None, (2,), ("0",)), "label 2 of example 0 is not a class index from 0 to 1"),
        (MOOD, "dev", Examples(("a",), None, (1.0,), ("0",)), "label 1.0"),
        (GRADE, "dev", Examples(("a",), ("b",), (5.5,), ("0",)), "label 5.5 of example 0 is not a number from 0 to 5"),
        (GRADE, "dev", Examples(("a",), ("b",), (float("nan"),), ("0",)), "label nan"),
    ],
)
def test_examples_that_do_not_fit_the_task_are_refused(task, split, examples, message):
    with pytest.raises(ConfigurationError, match=message):
        TaskData(task, {split: examples})
