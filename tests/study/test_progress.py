from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from supermask.study import overridden, runs_of
from supermask.study.estimates import TimeLeft
from supermask.study.live_progress import LiveReporter
from supermask.study.orders import RunOrder
from supermask.study.planning import Plan, PlannedRun
from supermask.study.progress import PlainReporter, Reporter, SilentReporter, status_in_words
from tiny_records import tiny_record
from tiny_studies import tiny_study


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    runs = []
    for seed, (state, seconds) in enumerate(
        [("recorded", None), ("new", 100.0), ("failed", None), ("elsewhere", 50.0)]
    ):
        spec = runs_of(overridden(tiny_study("b"), seeds=[seed]))[0]
        record = tiny_record(spec)
        order = RunOrder(
            task=spec.task,
            task_version=1,
            label=spec.label,
            method=spec.method,
            config=spec.config,
            draws=2,
            key=spec.key,
            address=f"address{seed}",
            base=record.inputs.base,
            data=record.inputs.data,
            directory=".",
            store=str(tmp_path),
            target=f"{spec.task}/{spec.label}.json",
            work=str(tmp_path / ".work" / f"address{seed}"),
        )
        runs.append(PlannedRun(order, state, None, seconds, 345))  # type: ignore[arg-type]
    return Plan(tuple(runs))


def test_a_plan_tells_states_and_time(plan: Plan) -> None:
    assert [run.state for run in plan.to_do] == ["new", "failed", "elsewhere"]
    assert status_in_words(plan) == "1 recorded, 1 missing, 1 failed before, 1 at work elsewhere"
    assert (plan.seconds_left(1), plan.seconds_left(3)) == (225.0, 75.0)  # the unknown one like the mean
    assert Plan(plan.runs[:1]).seconds_left(1) == 0.0
    assert Plan(plan.runs[2:3]).seconds_left(1) is None


def test_time_left_learns_from_what_is_made() -> None:
    left = TimeLeft({"a": None, "b": None, "c": None}, slots=1)
    assert left.seconds(0.0) is None
    left.start("a", 0.0)
    assert left.end("a", 10.0) == 10.0
    assert left.seconds(10.0) == 20.0
    left.start("b", 10.0)
    assert left.seconds(14.0) == 16.0
    assert left.seconds(99.0) == 10.0  # later than thought, but not in the past
    assert left.end("b", 99.0, made=False) == 89.0
    assert left.seconds(99.0) == 10.0
    left.end("c", 99.0)
    assert (left.seconds(99.0), len(left)) == (0.0, 0)
    assert TimeLeft({"a": 30.0, "b": 10.0}, slots=2).seconds(0.0) == 20.0


def go_through(reporter: Reporter, plan: Plan) -> None:
    _, new, failed, elsewhere = plan.runs
    reporter.begin(plan, slots=2)
    reporter.started(new)
    reporter.tick()
    reporter.completed(new, tiny_record(runs_of(tiny_study("b"))[0]), here=True)
    reporter.note("a note")
    reporter.started(failed)
    reporter.failed(failed, "RuntimeError: [bold]no[/bold] :smile:")
    reporter.completed(elsewhere, tiny_record(runs_of(tiny_study("b"))[0]), here=False)
    reporter.end()


def test_plain_lines(plan: Plan) -> None:
    said = io.StringIO()
    go_through(PlainReporter(said), plan)
    lines = said.getvalue().splitlines()
    assert lines[0] == "4 runs: 1 recorded, 3 to do, 2 at a time; time: 1 min 52 s"
    assert lines[1] == "probe-paraphrase/mask-seed1: started, 345 steps, about 1 min 40 s"
    assert lines[2].startswith("probe-paraphrase/mask-seed1: f1 ") and lines[2].endswith("in 0 s; 2 left, 50 s")
    assert lines[3] == "a note"
    assert lines[5] == "probe-paraphrase/mask-seed2: FAILED: RuntimeError: [bold]no[/bold] :smile:; 1 left, 25 s"
    assert lines[6].endswith("by another runner; nothing left")
    go_through(SilentReporter(), plan)


def test_the_live_table(plan: Plan, tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, highlight=False, markup=False, emoji=False)
    reporter = LiveReporter(console)
    reporter.begin(plan, slots=1)
    reporter.started(plan.runs[1])
    checkpoint = plan.runs[1].order.folder.checkpoints / "checkpoint-200"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").touch()
    reporter.tick()
    assert "past step 200 of 345" in stream.getvalue()
    assert "1 of 4 runs recorded; 3 min 45 s to go" in stream.getvalue()
    reporter.end()
    stream.truncate(0)
    go_through(LiveReporter(console), plan)
    shown = stream.getvalue()
    assert "3 of 4 runs recorded, 1 failed; 0 s to go" in shown
    assert "FAILED: RuntimeError: [bold]no[/bold] :smile:" in shown and "another runner" in shown and "a note" in shown
