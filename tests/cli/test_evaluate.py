"""`supermask evaluate`."""

import json
import shutil
from pathlib import Path

from supermask import TaskDelta
from supermask.deltas import TaskRecord
from supermask.training import RunRecord
from tiny_command import Place, call, refused, said, told


def test_table_shows_the_score_beside_the_recorded_one(place: Place, trained: Path) -> None:
    text = said("evaluate", trained, "--file", place.dev, "--cpu")
    accuracy = f"{100 * RunRecord.load(trained / 'record.json').scores['dev']['accuracy']:.2f}"
    row = next(line for line in text.splitlines() if "accuracy" in line)
    assert row.split() == ["dev", "12", "accuracy", accuracy, accuracy]


def test_the_deltas_own_folder_or_file_will_do_too(place: Place, trained: Path) -> None:
    scores = [
        told("evaluate", path, "--file", place.dev, "--cpu")["scores"]
        for path in (trained, trained / "delta", trained / "delta" / "delta.safetensors")
    ]
    assert scores[0] == scores[1] == scores[2]


def test_regression_on_a_file(place: Place, regression: Path) -> None:
    document = told("evaluate", regression, "--file", place.numbers, "--cpu")
    assert set(document["scores"]["dev"]) == {"spearman", "pearson"}


def test_pairs_need_both_columns(place: Place, paired: Path, trained: Path) -> None:
    refused(call("evaluate", paired, "--file", place.pairs, "--text", "one"), "pairs", "--text-pair")
    columns = ("--text", "one", "--text-pair", "two")
    refused(call("evaluate", trained, "--file", place.pairs, *columns), "single texts", "leave --text-pair out")
    outcome = call("evaluate", paired, "--file", place.pairs, *columns, "--json", "--cpu")
    assert json.loads(outcome.stdout)["examples"] == {"dev": 12}


def test_classes_are_those_of_the_delta(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("sentence,label\nw1,low\nw2,medium\n")
    refused(call("evaluate", trained, "--file", file), f"{file}:3", "'medium'", "high, low")


def test_base_that_has_moved(place: Place, tmp_path: Path) -> None:
    base = shutil.copytree(place.base, tmp_path / "base")
    run = tmp_path / "run"
    assert call(*place.short_run(place.train, run, "--base", base)).exit_code == 0
    moved = base.rename(tmp_path / "moved")
    more = {"evaluate": ("--file", place.dev), "predict": ("--sentence", "w1"), "apply": ("--output", tmp_path / "m")}
    for verb, words in more.items():
        refused(call(verb, run, *words), f"no folder '{base}'", "--base")
        assert call(verb, run, *words, "--base", moved).exit_code == 0


def test_delta_that_does_not_say_its_task(place: Place, trained: Path, tmp_path: Path) -> None:
    delta = TaskDelta.load(trained / "delta")
    document = delta.document.model_copy(update={"task": TaskRecord()})
    TaskDelta(document, delta.payloads).save(tmp_path / "delta")
    refused(call("evaluate", tmp_path / "delta", "--file", place.dev), "does not say its task's name, kind")
