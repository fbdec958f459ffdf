"""The verbs of `supermask study` that run and tell; those that show have tests of their own."""

import json
from pathlib import Path
from typing import Any

import pytest

from supermask.study import load_study, runs_of, study_names
from tiny_command import call, refused, said, told
from tiny_records import fill, tiny_record
from tiny_studies import FULL, MASK, TASK, make_tiny_base, tiny_study, yaml_of


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec file on a tiny base and a probe."""
    folder = tmp_path_factory.mktemp("spec")
    study = tiny_study(make_tiny_base(folder / "base"), arms=[FULL, MASK])
    (folder / "tiny.yaml").write_text(yaml_of(study))
    return folder / "tiny.yaml"


def test_list_names_every_study() -> None:
    text = said("study", "list")
    assert all(f" {name} " in text for name in study_names())
    assert text.endswith("196 different runs in all; Figure 1 of the paper is an illustration\n")
    studies = told("study", "list")["studies"]
    assert [study["name"] for study in studies] == list(study_names())
    assert {study["name"]: study["runs"] for study in studies}["table3"] == 70


def test_status_tells_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    study = load_study("table6")
    fill(tmp_path, [study], leave_out=lambda run: run.arm != "supermask")
    (tmp_path / "junk.json").write_text('{"\x1b[2J": 1}')
    tiny_record(runs_of(study)[1], status="failed").save(tmp_path / "mrpc" / "failed.json")
    outcome = call("study", "status", "table6", "--results", tmp_path)
    assert outcome.exit_code == 0
    assert outcome.stdout.startswith(f"{tmp_path}: 2 records\n")
    assert "1 of 5" in outcome.stdout and "0:07:20" in outcome.stdout
    assert "failed: mrpc/supermask-lr2e-02-seed0: RuntimeError: the loss is not finite" in outcome.stdout
    assert "missing: mrpc/supermask-lr2e-03-seed0, mrpc/supermask-lr2e-04-seed0" in outcome.stdout
    assert f"warning: {tmp_path}/junk.json is no record and plays no part" in outcome.stderr
    assert "\x1b" not in outcome.stderr
    everything = call("study", "status", "--results", tmp_path)
    assert all(f" {name} " in everything.stdout for name in study_names())
    document: dict[str, Any] = json.loads(
        call("study", "status", "table6", "--results", tmp_path, "--seeds", "0-1", "--json").stdout
    )
    (told,) = document["studies"]
    assert [run["state"] for run in told["runs"] if run["seed"] == 0] == ["recorded", "failed", *["missing"] * 3]
    assert len(told["runs"]) == 10 and document["skipped"][0]["path"] == "junk.json"


def test_a_dry_run_checks_and_tells_but_runs_nothing(spec: Path, tmp_path: Path) -> None:
    command = ("study", "run", spec, "--results", tmp_path, "--dry-run", "--seeds", "0,3", "--limit", 40, "--cpu")
    text = said(*command)
    assert f"4 runs in {tmp_path}: 4 missing" in text
    assert "time for the rest, 1 at a time: unknown" in text
    assert all(f"{TASK}/{label} " in text for label in ("full-seed0", "mask-seed3"))
    document = told(*command)
    assert [(run["run"], run["state"], run["steps"]) for run in document["runs"]] == [
        (f"{TASK}/full-seed0", "missing", 2),
        (f"{TASK}/mask-seed0", "missing", 2),
        (f"{TASK}/full-seed3", "missing", 2),
        (f"{TASK}/mask-seed3", "missing", 2),
    ]
    assert not list(tmp_path.rglob("*.json"))


def test_a_failed_run_makes_the_exit_code_1(spec: Path, tmp_path: Path) -> None:
    outcome = call("study", "run", spec, "--results", tmp_path, "--launch", "false", "--cpu", "--limit", 16)
    assert outcome.exit_code == 1
    assert outcome.stdout == f"{tmp_path}: 0 runs made, 0 recorded before\n"
    assert f"failed: {TASK}/full-seed0: the worker ended with exit code 1: it printed nothing" in outcome.stderr
    told = json.loads(
        call("study", "run", spec, "--results", tmp_path, "--launch", "false", "--cpu", "--limit", 16, "--json").stdout
    )
    assert [run["run"] for run in told["failed"]] == [f"{TASK}/full-seed0", f"{TASK}/mask-seed0"]


def test_ctrl_c_says_how_to_go_on(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("supermask.study.execution.run_plan", interrupted)
    outcome = call("study", "run", spec, "--results", tmp_path, "--cpu", "--limit", 16)
    assert (outcome.exit_code, outcome.stderr) == (130, "stopped: nothing is lost; go on with the same command\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "table7"), ("no study is called 'table7'", "did you mean")),
        (("run", "table3", "--tasks", "mrcp"), ("no task is called 'mrcp'",)),
        (("run", "all", "--tasks", "probe-sentiment"), ("no study is on any of these tasks",)),
        (("run", "table3", "--tasks", ","), ("--tasks names no task",)),
        (("run", "table3", "--seeds", "one"), ("--seeds 'one'", "write 0,1,2 or 0-4")),
        (("run", "table3", "--seeds", "3-1"), ("no range",)),
        (("run", "table3", "--seeds", "0-99999999999"), ("no range",)),
        (("run", "table3", "--seeds", "5000000000"), ("seeds",)),
        (("run", "table3", "--seeds", ""), ("--seeds names no seed",)),
        (("run", "table3", "--limit", "0"), ("--limit",)),
        (("run", "table3", "--jobs", "0"), ("jobs",)),
        (("run", "nowhere.yaml"), ("nowhere.yaml: cannot be read",)),
        (("status", "nonsense"), ("no study is called 'nonsense'",)),
        (("run", "table3", "--data-dir", "no-such-folder", "--base", "no/such/base"), ("2 faults", "no-such-folder")),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path) -> None:
    more = ("--results", tmp_path) if arguments[0] == "run" else ()
    refused(call("study", *arguments, *more), *words)
