import io
from pathlib import Path

import pytest
from rich.console import Console

from supermask.settings import RunSettings
from supermask.study import overridden, runs_of
from supermask.study.orders import RunOrder
from supermask.study.progress import StudyProgress
from tiny_records import tiny_record
from tiny_studies import tiny_study


def go_through(progress: StudyProgress, orders: list[RunOrder]) -> None:
    new, failed, elsewhere = orders
    record = tiny_record(runs_of(tiny_study("b"))[0])
    progress.begin(orders, recorded=1, slots=2)
    progress.started(new)
    progress.tick()
    progress.completed(new, record, here=True)
    progress.note("a note\x1b[2J")
    progress.started(failed)
    progress.failed(failed, "RuntimeError: [bold]no[/bold] :smile:")
    progress.completed(elsewhere, record, here=False)
    progress.end()


@pytest.fixture
def orders(tmp_path: Path) -> list[RunOrder]:
    settings = RunSettings(results=tmp_path)
    made = []
    for seed, seconds in ((1, 100.0), (2, None), (3, 50.0)):
        (run, _) = runs_of(overridden(tiny_study("b"), seeds=[seed]))
        how = {"settings": settings, "directory": ".", "target": "a.json", "steps": 345, "seconds": seconds}
        told = {"label": run.label, "draws": 2, "key": run.key, "address": f"address{seed}"}
        made.append(RunOrder(inputs=tiny_record(run).inputs, **told, **how))
    return made


def test_plain_lines(orders: list[RunOrder]) -> None:
    said = io.StringIO()
    go_through(StudyProgress(Console(file=said, width=20)), orders)
    lines = said.getvalue().splitlines()
    assert lines[0] == "4 runs: 1 recorded, 3 to do, 2 at a time; time: 0:01:52"
    assert lines[1] == "probe-paraphrase/mask-seed1: started, 345 steps, about 0:01:40"
    assert lines[2].startswith("probe-paraphrase/mask-seed1: f1 ") and lines[2].endswith("in 0:00:00; 2 left, 0:00:50")
    assert lines[3] == "a note [2J"
    assert lines[5] == "probe-paraphrase/mask-seed2: FAILED: RuntimeError: [bold]no[/bold] :smile:; 1 left, 0:00:25"
    assert lines[6].endswith("by another runner; nothing left")


def test_bars_on_a_terminal(orders: list[RunOrder]) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, highlight=False)
    progress = StudyProgress(console)
    progress.begin(orders, recorded=1, slots=1)
    progress.started(orders[0])
    checkpoint = orders[0].folder.checkpoints / "checkpoint-200"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").touch()
    progress.tick()
    progress.end()
    assert "200/345" in stream.getvalue() and "1/4" in stream.getvalue()
    stream.truncate(0)
    go_through(StudyProgress(console), orders)
    assert "3/4" in stream.getvalue() and "FAILED: RuntimeError: [bold]no[/bold] :smile:" in stream.getvalue()
