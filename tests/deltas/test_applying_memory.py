"""How much memory putting a delta on a model takes, as the system counts it: torch's own is not Python's to trace."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from supermask.deltas import KeepMask, TaskDelta, base_fingerprint

MEBIBYTE = 1 << 20
SPARSITY = 0.13

CHILD = """
import ctypes, gc, sys
import torch
from deltas.test_applying_memory import encoder, small_delta
from supermask.deltas import TaskDelta

def kibibytes(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key))

model, delta = encoder(), TaskDelta.load(sys.argv[1])
for every in (2, 10, 100):  # what is loaded and compiled once is not of interest
    small, other = small_delta(every)
    with other.applied(small, threads=2):
        pass
before = [int(weight.view(torch.int32).sum()) for weight in model.parameters()]
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
start = kibibytes("VmRSS:")
delta.apply_(model, threads=2)
print(kibibytes("VmHWM:") - start, kibibytes("VmRSS:") - start)
delta.remove_(model, threads=2)
assert before == [int(weight.view(torch.int32).sum()) for weight in model.parameters()]
"""


def encoder() -> nn.ParameterList:
    """The matrices of BERT-base's encoder, 85 million weights, filled in place so that no memory is left over."""
    generator = torch.Generator().manual_seed(0)

    def bits(*shape: int) -> nn.Parameter:
        weights = torch.empty(shape)
        weights.view(torch.int32).random_(generator=generator)
        return nn.Parameter(weights)

    shapes = [(768, 768)] * 4 + [(3072, 768), (768, 3072)]
    return nn.ParameterList([bits(*shape) for _ in range(12) for shape in shapes])


def small_delta(every: int) -> tuple[nn.Module, TaskDelta]:
    model = nn.Linear(64, 64)
    keep = (torch.arange(4096) % every != 0).reshape(64, 64)
    return model, TaskDelta.create({"weight": KeepMask(keep)}, base=base_fingerprint(model))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_streaming_stays_under_the_largest_tensor_and_64_mebibytes(tmp_path: Path) -> None:
    model = encoder()
    generator = torch.Generator().manual_seed(1)

    def keep(weight: Tensor) -> Tensor:
        rows = torch.rand(weight.shape[0], 1, generator=generator)
        columns = torch.rand(1, weight.shape[1], generator=generator)
        return torch.rand(weight.shape, generator=generator) >= 4 * SPARSITY * rows * columns

    tensors = dict(model.named_parameters())
    changes = {name: KeepMask(keep(weight)) for name, weight in tensors.items()}
    delta = TaskDelta.create(changes, base=base_fingerprint(model), base_tensors=tensors)
    assert delta.sparsity == pytest.approx(SPARSITY, abs=0.005)
    path = delta.save(tmp_path / "delta.safetensors")
    command = [sys.executable, "-c", CHILD, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.returncode == 0, run.stderr
    peak, held = (1024 * int(figure) for figure in run.stdout.split())
    overwritten = 4 * delta.zeros + delta.weights / 8
    assert held > 0.95 * overwritten  # or the measure would see nothing
    largest = max(weight.nbytes for weight in tensors.values())
    assert peak < largest + 64 * MEBIBYTE
