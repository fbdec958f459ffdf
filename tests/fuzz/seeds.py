"""The deltas that mutation starts from: every kind of change, part of a mask's model, coding and dtype."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from deltas.reference_format import raw
from deltas.tiny_files import file_bytes
from deltas.tiny_values import forced
from fuzz.anatomy import put_together, take_apart
from fuzz.bases import BASES, EIGHT_BITS, FLOATS, HEAD, WHOLE, FuzzBase, base_named
from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, SparseValues, TaskDelta, fingerprint
from supermask.deltas.coding import VALUE_CODINGS

DESCRIBED: dict[str, Any] = {
    "method": {"kind": "fuzzed", "eps": 1e-6, "seed": None},
    "task": {"name": "toy", "label_names": ["größer", "kleiner"]},
    "training": {"steps": 7, "scores": {"dev": {"accuracy": 0.5}}, "notes": {"large": 12345678901234567890}},
}


@final
class Seed(NamedTuple):
    """An intact delta over a base, by what it shows."""

    name: str
    base: str
    data: bytes


@functools.cache
def seeds() -> tuple[Seed, ...]:
    """All of them; the same ones in every process."""
    return tuple(seed for name in BASES for seed in seeds_of(name))


@functools.cache
def seeds_of(base: str) -> tuple[Seed, ...]:
    """Those over one base."""
    found = every_seeds() if base == "every" else long_seeds()
    return tuple(Seed(name, base, data) for name, data in found.items())


def every_seeds() -> dict[str, bytes]:
    base = base_named("every")
    masks: dict[str, Change] = {name: KeepMask(keep) for name, keep in plain_masks(base).items()}
    structured: dict[str, Change] = {name: KeepMask(keep) for name, keep in structured_masks(base).items()}
    sparse = sparse_values(base)
    dense = dense_values(base)
    found = {
        "masks, alone": file_of(base, masks, coded_against_base=False),
        "masks, against the base": file_of(base, structured),
        "masks, by rows and columns": file_of(base, structured, coded_against_base=False),
        "values, against the base": file_of(base, dense),
        "values, alone": file_of(base, dense, coded_against_base=False),
        "sparse, against the base": file_of(base, sparse),
        "sparse, alone": file_of(base, sparse, coded_against_base=False),
        "all together": file_of(base, {**structured, **sparse, **dense}),
        "one mask": file_of(base, {"large": structured["large"]}),
        "one tensor": file_of(base, {"row": dense["row"]}),
    }
    return found | {f"values, {coding}": every_value_coded(base, coding) for coding in VALUE_CODINGS}


def long_seeds() -> dict[str, bytes]:
    base = base_named("long")
    source = torch.Generator().manual_seed(11)
    moved = base.tensors["halves"].detach() + (1e-3 * torch.randn(3, (1 << 17) + 1, generator=source)).half()
    keep = torch.rand(moved.shape, generator=source) > torch.tensor([[0.01], [0.5], [0.001]])
    whole = (base.tensors["bytes"] // 3).to(torch.uint8)
    return {
        "long, values": file_of(base, {"bytes": DenseValues(whole), "halves": DenseValues(moved)}),
        "long, mask": file_of(base, {"halves": KeepMask(keep)}),
        "long, sparse": file_of(base, {"halves": SparseValues(keep, moved[keep])}, coded_against_base=False),
    }


def plain_masks(base: FuzzBase) -> dict[str, Tensor]:
    """Few zeros and many, none and all, far apart and side by side, on tensors of all shapes."""
    shapes = {name: base.tensors[name].shape for name in base.tensors}

    def every(name: str, step: int, *, kept: bool = False) -> Tensor:
        return ((torch.arange(shapes[name].numel()) % step == 0) == kept).reshape(shapes[name])

    alone = torch.ones(shapes["large"], dtype=torch.bool)
    alone.view(-1)[[0, 1, 2900]] = False
    return {
        "large": alone,
        "matrix_float32": every("matrix_float32", 2),
        "matrix_float16": every("matrix_float16", 7, kept=True),
        "cube": torch.zeros(shapes["cube"], dtype=torch.bool),
        "row": torch.ones(shapes["row"], dtype=torch.bool),
        "scalar": torch.tensor(False),
        "empty": torch.ones(0, 4, dtype=torch.bool),
        "across": every("across", 5),
        "embedding.weight": every("embedding.weight", 3, kept=True),
        "int16": every("int16", 4),
    }


def structured_masks(base: FuzzBase) -> dict[str, Tensor]:
    """Masks that follow rows, columns and magnitudes, so that every part of a model is worth its while."""
    parts = {
        "large": "rcm",
        "matrix_float64": "m",
        "matrix_float32": "rm",
        "matrix_float16": "c",
        "matrix_bfloat16": "mr",
        "across": "r",
    }
    return {name: structured_mask(base.tensors[name], what) for name, what in parts.items()}


def structured_mask(tensor: Tensor, parts: str) -> Tensor:
    """Zeros by rows (r), columns (c) and magnitudes (m)."""
    source = torch.Generator().manual_seed(3)
    weights = tensor.detach().double()
    rows, columns = weights.shape
    noise = torch.rand(rows, columns, generator=source)
    dropped = torch.zeros(rows, columns, dtype=torch.bool)
    if "r" in parts:
        dropped |= (torch.rand(rows, generator=source) > 0.85)[:, None]
    if "c" in parts:
        dropped |= (torch.rand(columns, generator=source) > 0.85)[None, :]
    if "m" in parts:
        dropped |= weights.abs() < 0.02
    return ~(dropped & (noise < 0.95))


def dense_values(base: FuzzBase) -> dict[str, Change]:
    source = torch.Generator().manual_seed(4)
    found: dict[str, Change] = {}
    for name in ("row", "scalar", "empty", "cube", *(f"matrix_{str(dtype)[6:]}" for dtype in FLOATS)):
        old = base.tensors[name].detach()
        found[name] = DenseValues((old.double() + 1e-3 * torch.randn(old.shape, generator=source)).to(old.dtype))
    found["odd"] = DenseValues(base.tensors["odd"].detach().flip(0))
    for dtype in (*EIGHT_BITS, *WHOLE):
        old = base.tensors[str(dtype)[6:]].detach()
        found[str(dtype)[6:]] = DenseValues(old.flip(0))
    return found


def sparse_values(base: FuzzBase) -> dict[str, Change]:
    source = torch.Generator().manual_seed(8)
    found: dict[str, Change] = {}
    for name, share in (("large", 0.1), ("matrix_bfloat16", 0.9), ("cube", 0.5), ("across", 0.02), ("odd", 0.3)):
        old = base.tensors[name].detach()
        keep = torch.rand(old.shape, generator=source) >= share
        kept = old[keep]
        found[name] = SparseValues(keep, (kept + 1e-3 * torch.randn(kept.shape, generator=source)).to(old.dtype))
    return found


def head_changes() -> dict[str, Change]:
    return {
        "head.weight": DenseValues(torch.linspace(-1, 1, 24).reshape(3, 8)),
        "head.bias": DenseValues(torch.ones(3)),
    }


def file_of(base: FuzzBase, changes: Mapping[str, Change], *, coded_against_base: bool = True) -> bytes:
    delta = TaskDelta.create(
        {**changes, **head_changes()},
        base=fingerprint(base.learnt_on),
        base_tensors=base.tensors if coded_against_base else None,
        head=HEAD,
        places={"large": ChangePlace("query", 0)},
        base_name=base.name,
        **DESCRIBED,
    )
    return file_bytes(delta)


def every_value_coded(base: FuzzBase, coding: str) -> bytes:
    """All dense values in one coding, whether it pays or not, as far as the document allows that."""
    changes = dense_values(base)
    anatomy = take_apart(file_of(base, changes))
    for record in anatomy.document["changes"]:
        change = changes.get(record["name"])
        if not isinstance(change, DenseValues):
            continue
        values = change.values.reshape(-1)
        data = raw(values)
        if coding != "raw":
            coded = forced(coding, values, base.tensors[record["name"]].detach().contiguous().reshape(-1)).data
            if len(coded) >= len(data):
                continue
            data = coded
        anatomy.payloads[f"{record['name']}:values"] = data
        record["values_coding"] = coding
    return put_together(anatomy)
