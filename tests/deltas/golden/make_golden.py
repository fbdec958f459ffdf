"""Write the golden delta: `PYTHONPATH=tests python tests/deltas/golden/make_golden.py`, from the root.

Run it once for a version of the format: once released, every later supermask must read the file. What the tests hold it
to is worked out here from rules in whole numbers, so it is the same on every machine. A later supermask may write other
bytes for the same changes, since it may find a smaller coding, or use another version of zstd; it must write a delta
that it has loaded as it was.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, SparseValues, TaskDelta, fingerprint

FOLDER = Path(__file__).parent

ZSTD_VERSION = (1, 5, 7)
"""The library that wrote the file."""

DESCRIBED: dict[str, Any] = {
    "architecture": "GoldenModel",
    "base_name": "golden/base-größe",
    "method": {"kind": "supermask", "select": ["matrices"], "eps": 1e-06, "seed": None},
    "task": {"name": "golden", "label_names": ["no", "yes"]},
    "training": {"steps": 123, "scores": {"dev": {"accuracy": 0.1}}, "notes": {"größe": 12345678901234567890}},
}
HEAD = ("classifier.weight",)

PLACES = {
    "block.0.query.weight": ChangePlace("query", 0),
    "block.0.key.weight": ChangePlace("key", 0),
    "embedding.weight": ChangePlace("word_embedding"),
}


def noise(count: int, seed: int) -> Tensor:
    """Whole numbers below 2^16 that look random: a hash of their places."""
    mixed = torch.arange(count) + (seed << 20)
    for _ in range(2):
        mixed = (mixed ^ mixed >> 16) * 0x45D9F3B % (1 << 32)
    return mixed >> 16


def weights(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights of either sign and many magnitudes, each exact in float32."""
    numbers = noise(math.prod(shape), seed)
    return ((numbers - (1 << 15)) / (1 << 18)).to(dtype).reshape(shape)


def moved(base: Tensor, by: Tensor) -> Tensor:
    """A tensor whose bits, as whole numbers, are larger by so much."""
    integers = {2: torch.int16, 4: torch.int32}[base.element_size()]
    return (base.view(integers) + by.to(integers)).view(base.dtype)


def base_tensors() -> dict[str, Tensor]:
    """A base of most dtypes."""
    coarse = weights((96, 64), 7)
    return {
        "embedding.weight": weights((96, 32), 1, torch.bfloat16),
        "block.0.query.weight": weights((48, 64), 2),
        "block.0.key.weight": weights((48, 64), 3),
        "block.0.value.weight": weights((48, 64), 4),
        "block.0.output.weight": weights((64, 64), 5),
        "block.0.bias": weights((60,), 6),
        "block.1.ffn_in.weight": weights((48, 80), 8),
        "block.1.ffn_out.weight": (coarse * (1 << 7)).ceil() / (1 << 7),
        "block.1.gate.weight": weights((48, 40), 9),
        "block.1.halves.weight": weights((8, 12), 10, torch.float16),
        "block.1.doubles.weight": weights((5,), 11, torch.float64),
        "block.1.integers.weight": noise(12, 12).to(torch.int8).reshape(3, 4),
        "block.1.nothing.weight": torch.empty(0, 7),
        "größe": torch.tensor(7),
    }


def changes() -> dict[str, Change]:
    """Every kind of change, and what each form of mask and each coding of values is best at."""
    base = base_tensors()
    query, value, output = (base[f"block.0.{role}.weight"] for role in ("query", "value", "output"))
    ffn_in, ffn_out, gate = (base[f"block.1.{role}.weight"] for role in ("ffn_in", "ffn_out", "gate"))
    dense_rows = (torch.arange(48) % 6 == 1).unsqueeze(1)
    pulled = (torch.outer(torch.arange(64) % 3 - 1, torch.arange(64) % 5 - 2) * output.sign()) > 0
    pruned = noise(48 * 40, 20).reshape(48, 40) % 3 > 0
    decayed = moved(ffn_out, -((ffn_out.view(torch.int32) & (1 << 23) - 1) >> 15) - 256)
    trained = (torch.arange(96) % 48 == 3).unsqueeze(1)
    embedding = base["embedding.weight"]
    head = (noise(120, 21) - (1 << 15)) / (1 << 20)
    head[:3] = torch.tensor([-0.0, float("inf"), float("nan")])
    return {
        "embedding.weight": DenseValues(moved(embedding, noise(96 * 32, 22).reshape(96, 32) % 5 - 2)),
        "block.0.query.weight": KeepMask(~((query.abs() < 0.02) & (noise(48 * 64, 23).reshape(48, 64) % 4 > 0))),
        "block.0.key.weight": KeepMask(~(dense_rows & (noise(48 * 64, 24).reshape(48, 64) % 2 == 0))),
        "block.0.value.weight": KeepMask((value.abs() > 0.11) & (noise(48 * 64, 25).reshape(48, 64) % 8 > 0)),
        "block.0.output.weight": KeepMask(~(pulled & (noise(64 * 64, 26).reshape(64, 64) % 8 > 0))),
        "block.0.bias": KeepMask(torch.arange(60) * 7 % 11 > 1),
        "block.1.ffn_in.weight": DenseValues(moved(ffn_in, noise(48 * 80, 27).reshape(48, 80) % 63 - 31)),
        "block.1.ffn_out.weight": DenseValues(
            torch.where(trained, moved(ffn_out, noise(96 * 64, 28).reshape(96, 64)), decayed)
        ),
        "block.1.gate.weight": SparseValues(pruned, moved(gate, noise(48 * 40, 29).reshape(48, 40) % 63)[pruned]),
        "block.1.halves.weight": SparseValues(
            (torch.arange(96) * 5 % 7 < 3).reshape(8, 12), (torch.arange(41) - 8).to(torch.float16)
        ),
        "block.1.doubles.weight": DenseValues(
            torch.tensor([6e4, -0.0, 5e-324, 0.1, float("-inf")], dtype=torch.float64)
        ),
        "block.1.integers.weight": DenseValues(torch.arange(-6, 6, dtype=torch.int8).reshape(3, 4)),
        "block.1.nothing.weight": KeepMask(torch.ones(0, 7, dtype=torch.bool)),
        "classifier.weight": DenseValues(head.reshape(3, 40)),
    }


def golden_delta(**options: Any) -> TaskDelta:
    """The delta that is stored, coded as it is coded now."""
    base = base_tensors()
    described = {"head": HEAD, "places": PLACES, **DESCRIBED, "base_tensors": base, **options}
    return TaskDelta.create(changes(), base=fingerprint(base), **described)


if __name__ == "__main__":
    print(golden_delta().save(FOLDER, overwrite=True))
