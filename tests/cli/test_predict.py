"""`supermask predict`."""

import json
from pathlib import Path
from typing import Any

import pytest

from supermask import TaskDelta
from tiny_command import Place, call, refused, told

HEADER = "id\tprediction\tprobability"


def saved(delta: TaskDelta, folder: Path, **task: Any) -> Path:
    """The same delta with another task."""
    document = delta.document.model_copy(update={"task": delta.task.model_copy(update=task)})
    TaskDelta(document, delta.payloads).save(folder)
    return folder


def test_sentences_file_and_standard_input_agree(trained: Path, tmp_path: Path) -> None:
    texts = ["w1 w2", "w90 w3, w4", "w5"]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"body": text, "label": "of no known class"}) + "\n" for text in texts))
    given = [word for text in texts for word in ("--sentence", text)]
    outcomes = [
        call("predict", trained, *given),
        call("predict", trained, "--file", file, "--text", "body"),
        call("predict", trained, stdin="\n".join(texts) + "\n"),
    ]
    assert outcomes[0].exit_code == 0, outcomes[0].stderr
    assert outcomes[0].stdout == outcomes[1].stdout == outcomes[2].stdout
    header, *rows = outcomes[0].stdout.splitlines()
    assert header == HEADER
    assert [row.split("\t")[0] for row in rows] == ["0", "1", "2"]
    assert {row.split("\t")[1] for row in rows} <= {"high", "low"}
    assert all(0.5 <= float(row.split("\t")[2]) <= 1.0 for row in rows)


def test_pairs(place: Place, paired: Path) -> None:
    given = call("predict", paired, "--sentence", "w0", "--second", "w1", "--sentence", "w1", "--second", "w2")
    piped = call("predict", paired, stdin="w0\tw1\nw1\tw2\n")
    file = call("predict", paired, "--file", place.pairs, "--text", "one", "--text-pair", "two")
    assert given.exit_code == 0, given.stderr
    assert given.stdout == piped.stdout
    assert file.stdout.splitlines()[:3] == given.stdout.splitlines()
    refused(call("predict", paired, "--sentence", "w0"), "1 --sentence and 0 --second")
    refused(call("predict", paired, stdin="w0\n"), "line 1", "separated by a tab")
    refused(call("predict", paired, "--file", place.pairs, "--text", "one"), "--text-pair")


def test_regression_predicts_numbers(regression: Path) -> None:
    outcome = call("predict", regression, "--sentence", "w1 w2", "--json")
    [row] = json.loads(outcome.stdout)["predictions"]
    assert isinstance(row["prediction"], float)
    assert call("predict", regression, "--sentence", "w1 w2").stdout == f"id\tprediction\n0\t{row['prediction']:.6f}\n"


def test_output_files(trained: Path, tmp_path: Path) -> None:
    sentences = ("--sentence", "w1", "--sentence", "w99")
    tsv, jsonl = tmp_path / "out.tsv", tmp_path / "out.jsonl"
    printed = call("predict", trained, *sentences)
    outcome = call("predict", trained, *sentences, "--output", tsv)
    assert outcome.stdout == f"2 predictions written to {tsv}\n"
    assert tsv.read_text() == printed.stdout
    document = told("predict", trained, *sentences, "--output", jsonl)
    assert document == {"task": "own-data", "examples": 2, "files": [str(jsonl)], "notes": []}
    rows = [json.loads(line) for line in jsonl.read_text().splitlines()]
    assert rows == told("predict", trained, *sentences)["predictions"]
    refused(call("predict", trained, *sentences, "--output", tsv), str(tsv), "exists", "--overwrite")
    assert call("predict", trained, *sentences, "--output", tsv, "--overwrite").exit_code == 0
    refused(call("predict", trained, *sentences, "--output", tmp_path / "out.xlsx"), ".tsv or .jsonl")


def test_a_label_forges_no_row(trained: Path, tmp_path: Path) -> None:
    names = ("high\n7\tlow\t1.0000", "low\x1b[2J\u2028")
    delta = saved(TaskDelta.load(trained / "delta"), tmp_path / "delta", label_names=names)
    sentences = [word for number in range(40) for word in ("--sentence", f"w{number}")]
    outcome = call("predict", delta, *sentences, "--output", tmp_path / "out.tsv")
    assert outcome.exit_code == 0, outcome.stderr
    printed = call("predict", delta, *sentences).stdout
    assert printed == (tmp_path / "out.tsv").read_text()
    rows = [line.split("\t") for line in printed.splitlines()]
    assert [row[0] for row in rows] == ["id", *map(str, range(40))] and {len(row) for row in rows} == {3}
    assert {row[1] for row in rows[1:]} <= {r"high\n7\tlow\t1.0000", r"low\u001b[2J\u2028"}


def test_submission_of_a_test_split(paired: Path, place: Place, tmp_path: Path) -> None:
    # A delta of the tiny base whose classes are RTE's.
    delta = TaskDelta.load(paired / "delta")
    saved(delta, tmp_path / "delta", name="rte", label_names=("entailment", "not_entailment"))
    (tmp_path / "glue" / "RTE").mkdir(parents=True)
    test = "index\tsentence1\tsentence2\n7\tw1\tw2\n9\tw3\tw4\n"
    (tmp_path / "glue" / "RTE" / "test.tsv").write_text(test)
    source = ("predict", tmp_path / "delta", "--data-dir", tmp_path / "glue")
    outcome = call(*source, "--submission", tmp_path / "out")
    assert outcome.exit_code == 0, outcome.stderr
    assert "the official split has" in outcome.stderr or outcome.stderr == ""
    lines = (tmp_path / "out" / "RTE.tsv").read_text().splitlines()
    assert lines[0] == "index\tprediction"
    assert [line.split("\t")[0] for line in lines[1:]] == ["7", "9"]
    assert {line.split("\t")[1] for line in lines[1:]} <= {"entailment", "not_entailment"}
    printed = call(*source).stdout.splitlines()
    assert [line.split("\t")[1] for line in printed] == [line.split("\t")[1] for line in lines]
    refused(call(*source, "--submission", tmp_path / "out"), "RTE.tsv", "exists", "--overwrite")
    refused(call("predict", tmp_path / "delta", "--sentence", "a", "--second", "b", "--submission", "x"), "submission")
    refused(call(*source, "--split", "dev"), "no file", "dev.tsv")


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (None, ("nothing to predict", "--sentence", "standard input")),
        ("", ("standard input is empty",)),
        ("w1\n\nw2\n", ("line 2", "a text")),
    ],
)
def test_nothing_to_predict(stdin: str | None, words: tuple[str, ...], trained: Path) -> None:
    refused(call("predict", trained, stdin=stdin), *words)
