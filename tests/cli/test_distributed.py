"""`supermask train` in two processes: one folder, one report, one line for an error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import supermask
from tiny_command import Place

pytestmark = pytest.mark.slow

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")


def launch(launcher: tuple[str, ...], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *launcher, "supermask", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


def test_two_processes_write_and_report_as_one(place: Place, tmp_path: Path) -> None:
    output = tmp_path / "run"
    arguments = place.short_run(place.train, output, "--dev-file", place.dev, "--mask-draws", "per_rank", "--cpu")
    done = launch(TORCHRUN, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["record"]["processes"] == 2
    assert report["record"]["inputs"]["config"]["mask_draws"] == "per_rank"
    assert sorted(path.name for path in output.iterdir()) == ["delta", "inputs.json", "record.json", "zeros.png"]
    assert supermask.TaskDelta.load(output / "delta").weights > 0

    refused = launch(TORCHRUN, *arguments)
    assert refused.returncode != 0
    assert refused.stdout == ""
    errors = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "already holds a run" in errors[0]
