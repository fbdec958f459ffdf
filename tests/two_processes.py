"""Work in two processes that train together, on loopback, and never waiting for ever.

As a script, started by torchrun, it does work: two_processes.py FOLDER train:CASE ... shard:CASE ..., each of which is
done by `act` of the tests that `TESTS_OF` names.
"""

import datetime
import functools
import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from supermask.deltas import TaskDelta
from tiny_models import NO_DROPOUT, tiny_model

TESTS = Path(__file__).parent
TIMEOUT = 300  # seconds; alone on a core a launch takes a twentieth of it

TESTS_OF = {"train": "training.test_distributed", "shard": "methods.test_fsdp"}

# What the default run of the tests does in two processes, in one launch, which takes longer than the work.
SHARDS = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)  # `fully_shard` is public from there on
QUICK = (
    *("train:supermask", "train:refusals"),
    *(("shard:supermask", "shard:freezing", "shard:pruning") if SHARDS else ()),
)


@functools.cache
def in_two_processes(*work: str) -> dict[str, list[Any]]:
    """What each of two processes came to, by work, which is done once in a run of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        _launch(Path(folder), work)
        return {
            name: [torch.load(_result(Path(folder), name, rank), weights_only=True) for rank in range(2)]
            for name in work
        }


def as_tensors(delta: TaskDelta, dtype: torch.dtype = torch.float32) -> dict[str, dict[str, torch.Tensor]]:
    """The changes to a tiny BERT, as what goes between processes."""
    found = delta.changes_for(tiny_model("bert", **NO_DROPOUT).to(dtype))
    return {
        name: {field: getattr(change, field) for field in ("keep", "values") if hasattr(change, field)}
        for name, change in found.items()
    }


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], *, exactly: bool = False) -> None:
    """The same names and fields, the same masks, and values that are equal or close."""
    assert list(ours) == list(theirs)
    for name in ours:
        assert list(ours[name]) == list(theirs[name])
        for field, tensor in ours[name].items():
            other = theirs[name][field]
            if exactly or field == "keep":
                assert torch.equal(tensor, other), (name, field, int((tensor != other).sum()), tensor.numel())
            else:
                torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-6, msg=name)


def _launch(folder: Path, work: Iterable[str]) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with subprocess.Popen(
        [*command, __file__, str(folder), *work],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))},
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"two processes did not end in {TIMEOUT} s:\n{output}") from error
    assert process.returncode == 0, output


def _result(folder: Path, name: str, rank: int) -> Path:
    return folder / f"{name.replace(':', '-')}-{rank}.pt"


def main(folder: Path, work: list[str]) -> None:
    """What each of the two processes does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=TIMEOUT))
    for name in work:
        kind, _, case = name.partition(":")
        tests = importlib.import_module(TESTS_OF[kind])
        torch.save(tests.act(case, folder), _result(folder, name, distributed.get_rank()))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
