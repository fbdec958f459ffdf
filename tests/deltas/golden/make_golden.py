"""Write the golden deltas of the current format version: `python tests/deltas/golden/make_golden.py`, from the root.

Run it once for a new version of the format. The files of a version never change after that: every later supermask must
read them, and the version that writes them must write these very bytes.
"""

from __future__ import annotations

from pathlib import Path

import torch

from supermask.deltas import ChangePlace, DenseValues, Fingerprint, KeepMask, SparseValues, TaskDelta, fingerprint

FOLDER = Path(__file__).parent


def base_tensors() -> dict[str, torch.Tensor]:
    """A base whose every value is exact in every dtype."""
    return {
        "block.0.query.weight": ((torch.arange(64 * 80) * 7 % 31 - 15) / 8).reshape(64, 80),
        "block.0.query.bias": (torch.arange(64) % 5 - 2).to(torch.bfloat16),
        "block.1.key.weight": (torch.arange(96) % 9 - 4).to(torch.float16).reshape(8, 12),
        "block.1.value.weight": torch.ones(4, 4),
        "embedding.weight": torch.full((10, 6), -0.5),
        "größe": torch.tensor(7),
    }


def keep_masks() -> dict[str, torch.Tensor]:
    """Masks by rule, one of each sort: few zeros with escapes, few survivors, all kept, and half of the weights."""
    few = torch.ones(64 * 80, dtype=torch.bool)
    few[[0, 1, 2500, 5119]] = False
    return {
        "block.0.query.weight": few.reshape(64, 80),
        "embedding.weight": (torch.arange(60) % 11 == 3).reshape(10, 6),
        "block.1.value.weight": torch.ones(4, 4, dtype=torch.bool),
        "block.1.key.weight": (torch.arange(96) * 5 % 7 < 3).reshape(8, 12),
    }


def golden_delta() -> TaskDelta:
    """The delta that is stored: every kind of change, every optional field both present and absent."""
    masks = keep_masks()
    survivors = int(masks["block.1.key.weight"].sum())
    base: Fingerprint = fingerprint(base_tensors())
    return TaskDelta.create(
        {
            "block.0.query.weight": KeepMask(masks["block.0.query.weight"]),
            "block.0.query.bias": DenseValues((torch.arange(64) % 3 - 1).to(torch.bfloat16)),
            "block.1.key.weight": SparseValues(
                masks["block.1.key.weight"], (torch.arange(survivors) - 8).to(torch.float16)
            ),
            "block.1.value.weight": KeepMask(masks["block.1.value.weight"]),
            "embedding.weight": KeepMask(masks["embedding.weight"]),
            "classifier.weight": DenseValues(torch.tensor([[1.5, -0.0, float("inf")]])),
        },
        base=base,
        head=["classifier.weight"],
        places={
            "block.0.query.weight": ChangePlace("query", 0),
            "block.0.query.bias": ChangePlace("bias", 0),
            "embedding.weight": ChangePlace("word_embedding"),
        },
        architecture="GoldenModel",
        base_name="golden/base-größe",
        method={"kind": "supermask", "select": ["matrices"], "eps": 1e-06, "seed": None},
        task={"name": "golden", "label_names": ["no", "yes"]},
        training={"steps": 12345678901234567890, "scores": {"accuracy": 0.1}},
    )


if __name__ == "__main__":
    print(golden_delta().save(FOLDER / "v1"))
