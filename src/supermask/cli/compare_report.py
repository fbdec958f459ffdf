"""Two sides loaded, compared and shown: tables by role and by block, JSON, and a CSV file of every tensor."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from supermask import analysis
from supermask.analysis import DistanceRange, RandomLaw, TensorDistance, summarise_distances
from supermask.analysis.checkpoints import CheckpointComparison, compare_checkpoints
from supermask.atomic import write_atomically
from supermask.cli.printing import PlainTable, answer, percent, plain_table, shown
from supermask.cli.store_report import overlap_as_json, overlap_table
from supermask.cli.stored import load_delta
from supermask.deltas.document import FORMAT_NAME
from supermask.hub import parse_address
from supermask.models.checkpoint import BackboneNames, open_checkpoint
from supermask.prediction import stored_base

__all__ = ["compare_deltas", "compare_models", "is_delta"]

_BERT_RANGE = 0.02
_NUMBERS = (">tensors", ">changed\n%", ">zeroed\n%", ">L1 / √n\nmean", ">\nmax", ">column\nsum max", ">angle/π\nmax")
_CSV = ("name", "role", "block", "changed", "zeroed", "l1", "largest_column_sum", "largest_row_sum", "angular")
_LEGEND = (
    "changed, zeroed: components that differ, and that are zero and were not;",
    "L1 / √n: ‖θ - θ̃‖₁ over the square root of the number of components, over the tensors of the row;",
    "column sum: the matrix norm ‖θ - θ̃‖₁, the largest sum of |θ - θ̃| over a column",
)

_expected = cache(analysis.expected_distances)


def is_delta(given: str) -> bool:
    """Whether an argument is a delta; otherwise it is taken for a model.

    On this machine the files tell. On the hub, `OWNER/NAME` is a model, and a delta is named with its revision or with
    `hf://` before it.
    """
    path = Path(os.path.expanduser(given))  # noqa: PTH111 (Path.expanduser raises for an unknown user)
    if path.is_dir():
        return any((folder / "delta.safetensors").is_file() for folder in (path, path / "delta"))
    if path.is_file():
        try:
            with safe_open(path, framework="pt") as file:
                return str((file.metadata() or {}).get("format")).startswith(FORMAT_NAME)
        except (SafetensorError, OSError):
            return False
    return ("@" in given or given.startswith("hf://")) and parse_address(given) is not None


def compare_models(
    base: str, revision: str | None, other: str, other_revision: str | None, *, table: Path | None, as_json: bool
) -> None:
    """Compare two checkpoints, print how far they are apart, and write every tensor to the CSV file `table`."""
    found = compare_checkpoints(
        open_checkpoint(base, revision=revision), open_checkpoint(other, revision=other_revision)
    )
    document = {
        "base": base,
        "finetuned": other,
        "dtypes": {"base": list(found.base_dtypes), "finetuned": list(found.other_dtypes)},
        "architecture_known": found.names is not None,
        **_distances_as_json(found.tensors, found.names),
        "heads": [asdict(tensor) for tensor in found.heads],
        "only_in_base": [*found.only_base, *found.base_heads],
        "only_in_finetuned": [*found.only_other, *found.other_heads],
        "resized": list(found.resized),
        "not_compared": list(found.not_compared),
    }
    told = [
        f"base: {base} ({', '.join(found.base_dtypes)})",
        f"fine-tuned: {other} ({', '.join(found.other_dtypes)})",
        *_distance_tables(found.tensors),
        *_reference_table(found.tensors, found.names),
        *_remarks(found),
    ]
    if found.heads:
        heads = summarise_distances(found.heads, lambda tensor: tensor.name)
        told += ["heads that both have", _table(heads, "tensor")]
    told += _write_csv(table, [(other, [*found.tensors, *found.heads])])
    answer(document, told, as_json=as_json)


def compare_deltas(
    given: Sequence[str],
    base: str | None,
    revision: str | None,
    allow_new: Sequence[str] | None,
    *,
    table: Path | None,
    as_json: bool,
) -> None:
    """Print how far one or two deltas move their base, which may stand where none says, and what two share."""
    deltas = [load_delta(place) for place in given]
    model = stored_base(deltas[0].document, base, revision, allow_new).model
    # The overlap checks that both have this base; alone, a delta's own check does.
    overlap = analysis.delta_overlap(deltas[0], deltas[1], base=model) if len(deltas) == 2 else None
    moved = [analysis.delta_distances(model, delta, verify=overlap is None) for delta in deltas]
    base_name = base or deltas[0].document.base.name or "the base"
    document: dict[str, Any] = {"base": base_name, "deltas": []}
    told: list[str | PlainTable] = [f"base: {base_name}"]
    for place, delta, tensors in zip(given, deltas, moved, strict=True):
        task, sparsity = delta.task.name or "not named", delta.sparsity if delta.weights else None
        document["deltas"].append(
            {
                "name": place,
                "digest": delta.digest,
                "task": task,
                "method": delta.method.kind or "not named",
                "sparsity": sparsity,
                **_distances_as_json(tensors, None),
            }
        )
        zeros = "" if sparsity is None else f", {percent(sparsity)} % of its masked weights zero"
        told.append(f"delta: {place} (task {task}{zeros})")
        told += _distance_tables(tensors) if tensors else ["nothing but the head differs from the base"]
    told += _reference_table([tensor for tensors in moved for tensor in tensors], None)
    if overlap is not None:
        counts = [tensor.count for tensor in overlap.tensors]
        significance = analysis.overlap_significance(counts) if counts else None
        document["shared_zeros"] = overlap_as_json(overlap, "role")
        document["significance"] = asdict(significance) if significance is not None else None
        if significance is None:
            told.append("no tensor is masked by both, so they share no zeros")
        else:
            told += ["zeros of the first, of the second, and shared, against chance", overlap_table(overlap, "role")]
            how = "exact" if significance.exact else "by a normal law"
            more, fewer = (f"10^{log:.1f}" for log in (significance.log10_p_more, significance.log10_p_fewer))
            chance = f"probability by chance of as many: {more}, of as few: {fewer} ({how})"
            told.append(f"{chance}; the ratio says how much more")
    told += _write_csv(table, zip(given, moved, strict=True))
    answer(document, told, as_json=as_json)


def _write_csv(path: Path | None, compared: Iterable[tuple[str, Iterable[TensorDistance]]]) -> list[str]:
    """Write every tensor, and return what is to be told of it."""
    if path is None:
        return []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("finetuned", "shape", "weights", *_CSV))
    for label, tensors in compared:
        for tensor in tensors:
            cells = (getattr(tensor, name) for name in _CSV)  # None becomes empty
            writer.writerow((label, "x".join(map(str, tensor.shape)), tensor.weights, *cells))
    write_atomically(path, text.getvalue().encode())
    return [f"every tensor: {path}"]


def _distance_tables(tensors: Sequence[TensorDistance]) -> Iterator[PlainTable]:
    yield _table(summarise_distances(tensors, _role), "role", total=tensors)
    found = summarise_distances(tensors, lambda tensor: tensor.block)
    if blocks := sorted(block for block in found if block is not None):
        yield _table({str(block): found[block] for block in blocks}, "block")


def _reference_table(tensors: Sequence[TensorDistance], names: BackboneNames | None) -> Iterator[str | PlainTable]:
    if tensors:
        yield from _LEGEND
    table = plain_table("shape", "law", ">L1 / √n", ">column sum", ">angle/π")
    for shape, law, found in _references(tensors, names):
        kind = f"uniform ±{law.scale:.4f}" if law.kind == "uniform" else f"normal {law.scale:g}, cut at {law.cut:g} sd"
        numbers = (f"{found.l1:.1f}", shown(found.largest_column_sum, ".1f"), f"{found.angular:.3f}")
        table.add_row(" x ".join(map(str, shape)), kind, *numbers)
    if table.rows:
        yield from ("two independent random initialisations would be this far apart, in expectation", table)


def _table(rows: Mapping[str, DistanceRange], first: str, *, total: Sequence[TensorDistance] = ()) -> PlainTable:
    table = plain_table(first, *_NUMBERS)
    table.padding = (0, 1, 0, 0)
    for name, found in rows.items():
        table.add_row(name.replace("_", " ") if first == "role" else name, *_cells(found))
    if total:
        table.add_section()
        table.add_row("all", *_cells(summarise_distances(total, lambda _: "all")["all"]))
    return table


def _cells(found: DistanceRange) -> Iterator[str]:
    yield f"{found.tensors:,}"
    yield from (percent(part / found.weights if found.weights else None) for part in (found.changed, found.zeroed))
    yield from (f"{value:.3f}" for value in found.l1[1:])
    yield shown(found.largest_column_sum and found.largest_column_sum[2], ".3f")
    yield shown(found.angular and found.angular[2], ".4f")


def _remarks(comparison: CheckpointComparison) -> Iterator[str]:
    if comparison.names is None:
        yield "the architecture is not known, so tensors have no roles; a folder with its config.json tells more"
    if set(comparison.base_dtypes) != set(comparison.other_dtypes):
        yield "dtypes differ: values are compared as stored, so rounding to the narrower dtype counts as change"
    for what, names in (
        ("rows of other numbers, compared on those that both have", comparison.resized),
        ("only in the base", (*comparison.only_base, *comparison.base_heads)),
        ("only in the fine-tuned", (*comparison.only_other, *comparison.other_heads)),
        ("whole numbers, not compared", comparison.not_compared),
    ):
        if names:
            listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            yield f"{what}: {listed}"


def _references(
    tensors: Iterable[TensorDistance], names: BackboneNames | None
) -> Iterator[tuple[tuple[int, ...], RandomLaw, Any]]:
    """Random initialisations of the shapes of the blocks' matrices: uniform to 1/√H, and the architecture's own law."""
    shapes = dict.fromkeys(tensor.shape for tensor in tensors if tensor.block is not None and len(tensor.shape) == 2)
    width = (names.hidden_size if names is not None else None) or min((min(shape) for shape in shapes), default=0)
    spread = (names.initializer_range if names is not None else None) or _BERT_RANGE
    for shape in shapes:
        for law in (analysis.uniform_law(width**-0.5), analysis.truncated_normal_law(spread)):
            yield shape, law, _expected(shape, law)


def _role(tensor: TensorDistance) -> str:
    return tensor.role or "unnamed"


def _distances_as_json(tensors: Sequence[TensorDistance], names: BackboneNames | None) -> dict[str, Any]:
    def ranges(by: Callable[[TensorDistance], Any], key: str) -> list[dict[str, Any]]:
        return [{key: place, **asdict(found)} for place, found in summarise_distances(tensors, by).items()]

    return {
        "by_role": ranges(_role, "role"),
        "by_block": ranges(lambda tensor: tensor.block, "block"),
        "random": [
            {"shape": list(shape), "law": asdict(law), "expected": asdict(found)}
            for shape, law, found in _references(tensors, names)
        ],
        "tensors": [asdict(tensor) for tensor in tensors],
    }
