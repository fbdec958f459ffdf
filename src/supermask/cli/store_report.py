"""What the verbs of `supermask store` show, as tables and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from supermask.analysis import DeltaOverlap, OverlapCount
from supermask.cli.failures import one_line
from supermask.cli.printing import PlainTable, answer, note, percent, plain_table, shown
from supermask.deltas import TaskDelta
from supermask.deltas.listing import StoreBase, StoredDelta, StoreFault, StoreListing
from supermask.deltas.store import StoreVerification

__all__ = ["overlap_as_json", "overlap_table", "report_listing", "report_overlap", "report_verification", "row_as_json"]

_NUMBERS = (">first", ">second", ">shared", ">chance", ">ratio", ">ratio\nr×c", ">Jaccard", ">z")
_COUNTED = (
    *("weights", "first_zeros", "second_zeros", "shared", "expected", "expected_given_rows_and_columns"),
    *("ratio", "ratio_given_rows_and_columns", "jaccard", "z"),
)
_LEGEND = (
    "zeros: of the first, of the second, shared, and shared if those of each tensor lay at random (chance);",
    "ratio: shared over chance, and over what the numbers of zeros in each row and column lead one to expect (r×c);",
    "z: standard deviations above chance, which is large for unrelated tasks too, as all favour the same places",
)


def report_listing(store: str, base: StoreBase, listing: StoreListing, *, as_json: bool) -> None:
    """Print the deltas of a store, as tables or as JSON."""
    table = plain_table("name", "task", "method", ">zeros, %", ">bytes", "score, %")
    for delta in listing.deltas:
        task, method, weights = delta.document.task, delta.document.method, delta.document.weights
        scores = [f"{score.split} {score.metric} {percent(score.value)}" for score in delta.scores]
        table.add_row(
            delta.name,
            task.name or "–",
            method.kind or "–",
            percent(delta.document.sparsity if weights else None),
            f"{delta.nbytes:,}",
            "; ".join(scores) or "–",
        )
    title = f"{store}: {_counted(len(listing.deltas), 'delta')} over {_base_in_words(base)}"
    told = {"deltas": [row_as_json(delta) for delta in listing.deltas]}
    oddities, lines = _oddities(listing.faults, listing.strangers)
    document = {"store": store, "base": base.model_dump(), **told, **oddities}
    answer(document, [title, *([table] if table.rows else []), *lines], as_json=as_json)


def report_verification(store: str, base: StoreBase, result: StoreVerification, *, as_json: bool) -> None:
    """Print what came of checking a store; that there are faults is said on standard error as well."""
    faults = Counter(fault.name for fault in result.faults)
    table = plain_table("delta", "state")
    for name in sorted((*result.intact, *faults)):
        table.add_row(name, _counted(faults[name], "fault") if name in faults else "intact")
    checked = "checksums compared and everything decoded" if result.decoded else "checksums compared"
    title = f"{store}: deltas over {_base_in_words(base)}, {checked}"
    told = {"decoded": result.decoded, "intact": list(result.intact)}
    oddities, lines = _oddities(result.faults, result.strangers)
    document = {"store": store, "base": base.model_dump(), **told, **oddities}
    answer(document, [title, *([table] if table.rows else []), *lines], as_json=as_json)
    if faults:
        total = _counted(len(result.intact) + len(faults), "delta")
        note(f"error: {_counted(len(result.faults), 'fault')} in {len(faults)} of {total}")


def report_overlap(
    store: str,
    first: tuple[str, TaskDelta],
    second: tuple[str, TaskDelta],
    overlap: DeltaOverlap,
    *,
    by: str,
    as_json: bool,
) -> None:
    """Print what two named deltas share, a row for each role, block or tensor, as tables or as JSON."""
    document: dict[str, Any] = {"store": store}
    told: list[str | PlainTable] = []
    for which, (name, delta) in (("first", first), ("second", second)):
        document[which] = {"name": name, "digest": delta.digest}
        about = f"task {delta.task.name or 'not named'}, method {delta.method.kind or 'not named'}"
        told.append(f"{which}: {name} ({about})")
    if overlap.tensors:
        told += [overlap_table(overlap, by), *_LEGEND]
    if overlap.values:
        rows = ((one.name, f"{one.l1:.4g}", shown(one.angle, ".4f")) for one in overlap.values)
        told.append(plain_table("values in both", ">distance, L1 / √n", ">angle / π", rows=rows))
    for which, names in (
        ("only the first changes", overlap.only_first),
        ("only the second changes", overlap.only_second),
        ("one masks and the other gives new values", overlap.unlike),
    ):
        told += [f"{which}: {', '.join(names)}"] if names else []
    if not (overlap.tensors or overlap.values or overlap.unlike):
        told.append("no tensor outside the heads is changed by both")
    document |= {"by": by, **overlap_as_json(overlap, by)}
    document["values"] = [
        {"tensor": one.name, "role": one.role, "block": one.block, "l1": one.l1, "angle": one.angle}
        for one in overlap.values
    ]
    document |= {name: list(getattr(overlap, name)) for name in ("only_first", "only_second", "unlike")}
    answer(document, told, as_json=as_json)


def overlap_table(overlap: DeltaOverlap, by: str) -> PlainTable:
    """The shared zeros of two deltas beside chance, a row for each role, block or tensor."""
    table = plain_table(by, *_NUMBERS)
    table.padding = (0, 1, 0, 0)  # so that the counts of a large model fit 80 columns
    for place, count in _grouped(overlap, by).items():
        table.add_row(place.replace("_", " ") if by == "role" else place, *_cells(count))
    table.add_section()
    table.add_row("all", *_cells(overlap.total))
    return table


def overlap_as_json(overlap: DeltaOverlap, by: str) -> dict[str, Any]:
    """The shared zeros of two deltas beside chance, by role, block or tensor, and in total."""
    rows = [{by: place, **_count_as_json(count)} for place, count in _grouped(overlap, by).items()]
    return {"zeros": rows, "total": _count_as_json(overlap.total)}


def _cells(count: OverlapCount) -> Iterator[str]:
    yield from (f"{number:,}" for number in (count.first_zeros, count.second_zeros, count.shared))
    yield f"{count.expected:,.0f}" if count.expected >= 10 else f"{count.expected:.1f}"
    yield from (shown(value, ".2f") for value in (count.ratio, count.ratio_given_rows_and_columns))
    yield from (shown(count.jaccard, ".3f"), shown(count.z, ".1f"))


def _grouped(overlap: DeltaOverlap, by: str) -> dict[str, OverlapCount]:
    if by == "tensor":
        return {tensor.name: tensor.count for tensor in overlap.tensors}
    if by == "block":
        return {"outside" if block is None else str(block): count for block, count in overlap.by_block().items()}
    return dict(overlap.by_role())


def _count_as_json(count: OverlapCount) -> dict[str, Any]:
    return {name: getattr(count, name) for name in _COUNTED}


def row_as_json(delta: StoredDelta) -> dict[str, Any]:
    """What a delta of a store says, in short."""
    document = delta.document
    return {
        "name": delta.name,
        "path": str(delta.path),
        "digest": document.digest,
        "task": document.task.name,
        "method": document.method.kind,
        "base": document.base.name,
        "zeros": document.zeros,
        "masked_weights": document.weights,
        "sparsity": document.sparsity,
        "bytes": delta.nbytes,
        "scores": [{"split": score.split, "metric": score.metric, "score": score.value} for score in delta.scores],
    }


def _oddities(faults: Sequence[StoreFault], strangers: Sequence[StoreFault]) -> tuple[dict[str, Any], list[str]]:
    document = {"faults": [asdict(one) for one in faults], "not_deltas": [asdict(one) for one in strangers]}
    lines = [f"fault: {one.name}: {one_line(one.what)}" for one in faults]
    return document, lines + [f"not a delta: {one.name}: {one_line(one.what)}" for one in strangers]


def _base_in_words(base: StoreBase) -> str:
    name = (base.name or "a base that is not named") + (f" at {base.revision}" if base.revision else "")
    return f"{name} (fingerprint {base.digest[:16]})"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
