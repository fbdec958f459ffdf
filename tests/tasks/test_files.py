import csv
import json
from pathlib import Path

import pytest

from supermask.errors import ConfigurationError, DataError
from supermask.tasks import load_files, load_texts
from supermask.tasks.table import faults_of

TEXTS = ("a warm day", "a cold, grey day", 'the "best" tea', "no tea")
SECONDS = ("sunny", "cloudy", "tea", "coffee")
LABELS = ("good", "bad", "good", "bad")


def write_rows(path: Path, labels=LABELS) -> Path:
    """The four rows above in the format that the name of the file tells."""
    names = ("sentence", "second", "label")
    rows = list(zip(TEXTS, SECONDS, labels, strict=True))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), path)
    else:
        with path.open("w", newline="") as file:
            if path.suffix == ".csv":
                csv.writer(file).writerows([names, *rows])
            else:
                file.writelines("\t".join(map(str, row)) + "\n" for row in (names, *rows))
    return path


def write_csv(path: Path, labels, column: str = "label") -> Path:
    path.write_text(f"sentence,{column}\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(labels)))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_task(tmp_path, suffix):
    path = write_rows(tmp_path / f"train{suffix}")
    data = load_files(train=path, text_pair="second", name="tea")
    assert data.task.label_names == ("bad", "good")
    assert (data.task.name, data.task.kind, data.task.metrics) == ("tea", "classification", ("accuracy", "f1"))
    assert (data.train.first, data.train.second, data.train.labels) == (TEXTS, SECONDS, (1, 0, 1, 0))
    assert (data.train.ids, data.train.source) == (("0", "1", "2", "3"), str(path))
    numbers = load_files(train=write_rows(tmp_path / f"numbers{suffix}", (1.0, 2.5, -3.0, 4.0)), regression=True)
    assert numbers.train.labels == (1.0, 2.5, -3.0, 4.0)
    assert (numbers.task.label_names, numbers.task.metrics) == ((), ("spearman", "pearson"))


@pytest.mark.parametrize(
    ("values", "names", "labels"),
    [
        ((10, 2, 2, 1), ("1", "2", "10"), (2, 1, 1, 0)),
        ((True, False, True, True), ("false", "true"), (1, 0, 1, 1)),
        ((1.0, 0.0, 1.0, 0.0), ("0", "1"), (1, 0, 1, 0)),
        ((0.5, -1.5, 0.5, 2.0), ("-1.5", "0.5", "2"), (1, 0, 1, 2)),
        (("10", "b", "a", "b"), ("10", "a", "b"), (0, 2, 1, 2)),
    ],
)
def test_classes_are_sorted_as_numbers_or_as_text(tmp_path, values, names, labels):
    data = load_files(train=write_rows(tmp_path / "train.jsonl", values))
    assert (data.task.label_names, data.train.labels) == (names, labels)
    assert data.task.metrics == (("accuracy", "f1") if len(names) == 2 else ("accuracy", "macro_f1"))


def test_dev_takes_the_classes_of_train_and_test_needs_no_labels(tmp_path):
    train = write_csv(tmp_path / "train.csv", ["b", "a", "c"])
    dev = write_csv(tmp_path / "dev.csv", ["c", "c"])
    test = tmp_path / "test.csv"
    test.write_text("sentence\nwhat is this\n")
    data = load_files(train=train, dev=dev, test=test)
    assert data["dev"].labels == (2, 2)
    assert data["test"].labels is None
    assert list(data.report) == ["dev"] and list(data.test) == ["test"]
    labelled = load_files(train=train, dev=dev, test=write_csv(tmp_path / "test2.csv", ["a"]))
    assert labelled["test"].labels == (0,)


def test_known_classes_stand_in_for_a_train_file_and_metrics_may_be_chosen(tmp_path):
    dev = write_csv(tmp_path / "dev.csv", ["no", "yes"])
    data = load_files(dev=dev, label_names=["yes", "no"])
    assert (data.task.label_names, data["dev"].labels) == (("yes", "no"), (1, 0))
    assert load_files(dev=dev, label_names=["yes", "no"], metrics=["matthews"]).task.metrics == ("matthews",)
    with pytest.raises(ConfigurationError, match="pearson"):
        load_files(dev=dev, label_names=["yes", "no"], metrics=["pearson"])
    with pytest.raises(
        DataError, match=r"dev\.csv:3: the label 'yes' .* is not one of the label_names given: no, maybe"
    ):
        load_files(dev=dev, label_names=["no", "maybe"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no file is given"),
        ({"dev": "dev.csv"}, "the classes are those of the train file, which is not given; give it or label_names"),
        ({"train": "a.csv", "dev": "./a.csv"}, "the same file"),
        ({"train": "a.csv", "text_pair": "sentence"}, "different columns, received 'sentence', 'sentence', 'label'"),
        ({"train": "a.csv", "label": "sentence"}, "different columns"),
        ({"train": "a.csv", "regression": True, "label_names": ["a", "b"]}, "regression has none"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_reading(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        load_files(**settings)


def test_faults_of_all_files_are_told_together(tmp_path):
    train = write_csv(tmp_path / "train.csv", ["a", "b"], column="lable")
    dev = tmp_path / "dev.csv"
    dev.write_text("text,label\nx,a\n")
    with pytest.raises(DataError) as caught:
        load_files(train=train, dev=dev, test=tmp_path / "none.csv")
    assert faults_of(caught.value) == [
        f"{train}: no column 'label'; did you mean 'lable'? the columns are: sentence, lable",
        f"{dev}: no column 'sentence'; the columns are: text, label",
        f"the data file {tmp_path / 'none.csv'} does not exist; give the path of a .csv file",
    ]


def test_missing_and_foreign_values_are_told_with_their_lines(tmp_path):
    train = tmp_path / "train.jsonl"
    rows = [
        ("fine", "a", None),
        (None, "b", "no text in the column 'sentence'"),
        (" ", "b", "no text in the column 'sentence'"),
        (7, "b", "7 in the column 'sentence' is not text"),
        ("fine", None, "no label in the column 'label'"),
        ("half \ud83d", "a", "surrogate"),
        ("fine", ["a"], "neither text nor a number"),
        ("fine", float("nan"), "no label in the column 'label'"),
    ]
    train.write_text("".join(json.dumps({"sentence": text, "label": label}) + "\n" for text, label, _ in rows))
    with pytest.raises(DataError) as caught:
        load_files(train=train)
    told = {int(fault.split(":")[1]): fault for fault in faults_of(caught.value)}
    wanted = {line: message for line, (_, _, message) in enumerate(rows, start=1) if message}
    assert told.keys() == wanted.keys()
    assert all(message in told[line] for line, message in wanted.items())
    cells = tmp_path / "train.csv"  # an empty cell is a missing value
    cells.write_text("sentence,label\nx,a\n,b\ny,\n")
    with pytest.raises(DataError) as caught:
        load_files(train=cells)
    found = [fault.split(": ")[1].split(";")[0] for fault in faults_of(caught.value)]
    assert found == [wanted[2], wanted[5]]


@pytest.mark.parametrize(
    ("train", "dev", "regression", "message"),
    [
        (
            ["a", "b"],
            ["a", "c"],
            False,
            r"^.*dev\.csv:3: the label 'c' in the column 'label' is not .* train file: a, b$",
        ),
        ([i / 7 for i in range(60)] * 2, None, False, r"60 different numbers with fractions; .*regression=True"),
        ([f"id{i}" for i in range(60)], None, False, "each of the 60 rows has a value of its own in 'label'"),
        (["a", "a"], None, False, "all labels in 'label' are 'a'"),
        *(
            (["1.5", value], None, True, rf"train\.csv:3: '{value}' .* is not a finite number, which regression needs")
            for value in ("high", "nan", "inf")
        ),
    ],
)
def test_columns_that_are_no_labels_are_refused(tmp_path, train, dev, regression, message):
    files = {"train": write_csv(tmp_path / "train.csv", train)}
    if dev:
        files["dev"] = write_csv(tmp_path / "dev.csv", dev)
    with pytest.raises(DataError, match=message):
        load_files(**files, regression=regression)


def test_many_whole_numbers_are_classes_and_many_fractions_may_be_learnt_as_numbers(tmp_path):
    data = load_files(train=write_csv(tmp_path / "train.csv", list(range(77)) * 2))
    assert data.task.num_labels == 77
    assert data.task.label_names[:3] == ("0", "1", "2")
    fractions = write_csv(tmp_path / "fractions.csv", [i / 7 for i in range(60)] * 2)
    assert load_files(train=fractions, regression=True).train.labels[1] == pytest.approx(1 / 7)


def test_texts_are_read_without_looking_at_anything_else(tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text("one,two,label\na,b,\nc,d,odd\n")
    assert load_texts(file, text="one").first == ("a", "c")
    pairs = load_texts(file, text="one", text_pair="two")
    assert (pairs.second, pairs.labels, pairs.ids, pairs.source) == (("b", "d"), None, ("0", "1"), str(file))
    with pytest.raises(DataError, match="no column 'sentence'"):
        load_texts(file)
    file.write_text("one\na\n   \n")
    with pytest.raises(DataError, match=r"new.csv:3: no text in the column 'one'"):
        load_texts(file, text="one")
