"""What the verbs of `supermask store` show, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.analysis import DeltaOverlap, OverlapCount
from supermask.cli.failures import one_line
from supermask.cli.printing import note, percent, plain_table, print_json, print_lines, printable, show, shown_bytes
from supermask.deltas import TaskDelta
from supermask.deltas.listing import StoreBase, StoredDelta, StoreFault, StoreListing
from supermask.deltas.store import StoreVerification

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "overlap_as_json",
    "overlap_table",
    "report_added",
    "report_listing",
    "report_overlap",
    "report_verification",
]

_NUMBERS = ("first", "second", "shared", "chance", "ratio", "ratio\nr×c", "Jaccard", "z")
_COUNTED = (
    *("weights", "first_zeros", "second_zeros", "shared", "expected", "expected_given_rows_and_columns"),
    *("ratio", "ratio_given_rows_and_columns", "jaccard", "z"),
)
_LEGEND = (
    "zeros: of the first, of the second, shared, and shared if those of each tensor lay at random (chance);",
    "ratio: shared over chance, and over what the numbers of zeros in each row and column lead one to expect (r×c);",
    "z: standard deviations above chance, which is large for unrelated tasks too, as all favour the same places",
)


def report_added(store: Path, added: StoredDelta, *, as_json: bool) -> None:
    """Print the row of what was added, as a line or as JSON."""
    if as_json:
        print_json({"store": str(store), "added": _row_as_json(added)})
        return
    document = added.document
    zeros = "no zeros, as values alone were trained"
    if document.weights:
        zeros = f"{percent(document.sparsity)} % zeros ({document.zeros:,} of {document.weights:,} weights)"
    print_lines([f"{added.name} added to {store}/: {zeros}, {shown_bytes(added.nbytes)}"])


def report_listing(store: str, base: StoreBase, listing: StoreListing, *, as_json: bool) -> None:
    """Print the deltas of a store, as tables or as JSON."""
    if as_json:
        rows = [_row_as_json(delta) for delta in listing.deltas]
        print_json(
            {"store": store, "base": base.model_dump(), "deltas": rows}
            | _oddities_as_json(listing.faults, listing.strangers)
        )
        return
    print_lines([f"{store}: {_counted(len(listing.deltas), 'delta')} over {_base_in_words(base)}"])
    table = plain_table("name", "task", "method", "zeros, %", "bytes", "score, %", right=("zeros, %", "bytes"))
    for delta in listing.deltas:
        document = delta.document
        scores = [f"{printable(f'{score.split} {score.metric}')} {percent(score.value)}" for score in delta.scores]
        table.add_row(
            delta.name,
            printable(document.task.name or "–"),
            printable(document.method.kind or "–"),
            percent(document.sparsity) if document.weights else "–",
            f"{delta.nbytes:,}",
            "\n".join(scores) or "–",
        )
    if table.rows:
        show(table, whole=True)
    print_lines(list(_oddities(listing.faults, listing.strangers)))


def report_verification(store: str, base: StoreBase, result: StoreVerification, *, as_json: bool) -> None:
    """Print what came of checking a store; that there are faults is said on standard error as well."""
    faulty = list(dict.fromkeys(fault.name for fault in result.faults))
    if as_json:
        print_json(
            {"store": store, "base": base.model_dump(), "decoded": result.decoded, "intact": list(result.intact)}
            | _oddities_as_json(result.faults, result.strangers)
        )
    else:
        checked = "checksums compared and everything decoded" if result.decoded else "checksums compared"
        print_lines([f"{store}: deltas over {_base_in_words(base)}, {checked}"])
        table = plain_table("delta", "state")
        for name in sorted((*result.intact, *faulty)):
            count = sum(fault.name == name for fault in result.faults)
            table.add_row(name, _counted(count, "fault") if count else "intact")
        if table.rows:
            show(table, whole=True)
        print_lines(list(_oddities(result.faults, result.strangers)))
    if faulty:
        total = len(result.intact) + len(faulty)
        note(f"error: {_counted(len(result.faults), 'fault')} in {len(faulty)} of {_counted(total, 'delta')}")


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
    if as_json:
        values = [
            {"tensor": distance.name} | {field: getattr(distance, field) for field in ("role", "block", "l1", "angle")}
            for distance in overlap.values
        ]
        print_json(
            {
                "store": store,
                "first": {"name": first[0], "digest": first[1].digest},
                "second": {"name": second[0], "digest": second[1].digest},
                "by": by,
                **overlap_as_json(overlap, by),
                "values": values,
                "only_first": list(overlap.only_first),
                "only_second": list(overlap.only_second),
                "unlike": list(overlap.unlike),
            }
        )
        return
    for which, (name, delta) in (("first", first), ("second", second)):
        task, method = printable(delta.task.name or "not named"), printable(delta.method.kind or "not named")
        print_lines([f"{which}: {name} (task {task}, method {method})"])
    if overlap.tensors:
        show(overlap_table(overlap, by), whole=True)
        print_lines(_LEGEND)
    if overlap.values:
        numbers = ("distance, L1 / √n", "angle / π")
        table = plain_table("values in both", *numbers, right=numbers)
        for distance in overlap.values:
            angle = "–" if distance.angle is None else f"{distance.angle:.4f}"
            table.add_row(printable(distance.name), f"{distance.l1:.4g}", angle)
        show(table, whole=True)
    for which, names in (
        ("only the first changes", overlap.only_first),
        ("only the second changes", overlap.only_second),
        ("one masks and the other gives new values", overlap.unlike),
    ):
        if names:
            print_lines([f"{which}: {printable(', '.join(names))}"])
    if not (overlap.tensors or overlap.values or overlap.unlike):
        print_lines(["no tensor outside the heads is changed by both"])


def overlap_table(overlap: DeltaOverlap, by: str) -> Table:
    """The shared zeros of two deltas beside chance, a row for each role, block or tensor."""
    table = plain_table(by, *_NUMBERS, right=_NUMBERS)
    table.padding = (0, 1, 0, 0)  # so that the counts of a large model fit 80 columns
    for place, count in _grouped(overlap, by).items():
        table.add_row(printable(place.replace("_", " ") if by == "role" else place), *_cells(count))
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
    for value, digits in (
        (count.ratio, 2),
        (count.ratio_given_rows_and_columns, 2),
        (count.jaccard, 3),
        (count.z, 1),
    ):
        yield "–" if value is None else f"{value:.{digits}f}"


def _grouped(overlap: DeltaOverlap, by: str) -> dict[str, OverlapCount]:
    if by == "tensor":
        return {tensor.name: tensor.count for tensor in overlap.tensors}
    if by == "block":
        return {"outside" if block is None else str(block): count for block, count in overlap.by_block().items()}
    return dict(overlap.by_role())


def _count_as_json(count: OverlapCount) -> dict[str, Any]:
    return {name: getattr(count, name) for name in _COUNTED}


def _row_as_json(delta: StoredDelta) -> dict[str, Any]:
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


def _oddities(faults: Sequence[StoreFault], strangers: Sequence[StoreFault]) -> Iterator[str]:
    for kind, things in (("fault", faults), ("not a delta", strangers)):
        for thing in things:
            yield f"{kind}: {printable(thing.name)}: {printable(one_line(thing.what))}"


def _oddities_as_json(faults: Sequence[StoreFault], strangers: Sequence[StoreFault]) -> dict[str, Any]:
    return {
        key: [{"name": thing.name, "what": thing.what} for thing in things]
        for key, things in (("faults", faults), ("not_deltas", strangers))
    }


def _base_in_words(base: StoreBase) -> str:
    name = (base.name or "a base that is not named") + (f" at {base.revision}" if base.revision else "")
    return f"{printable(name)} (fingerprint {base.digest[:16]})"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
