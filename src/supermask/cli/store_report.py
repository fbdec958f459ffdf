"""What the verbs of `supermask store` show, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.analysis import DeltaOverlap, OverlapCount, ValueDistance
from supermask.cli.failures import one_line
from supermask.cli.printing import note, percent, plain_table, print_json, print_lines, printable, show, shown_bytes
from supermask.deltas import TaskDelta
from supermask.deltas.store import StoreBase, StoredDelta, StoreFault, StoreListing, StoreVerification

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
_LEGEND = (
    "zeros: of the first, of the second, shared, and shared if those of each tensor lay at random (chance);",
    "ratio: shared over chance, and over what the numbers of zeros in each row and column lead one to expect (r×c);",
    "z: standard deviations above chance, which is large for unrelated tasks too, as all favour the same places",
)


def report_added(store: Path | str, added: StoredDelta, *, as_json: bool) -> None:
    """Print what was added.

    Args:
        store: as it was given.
        added: its row.
        as_json: print JSON instead of a line.
    """
    if as_json:
        print_json({"store": str(store), "added": _row_as_json(added)})
        return
    print_lines([f"{added.name} added to {store}/: {_zeros_in_words(added)}, {shown_bytes(added.nbytes)}"])


def report_listing(store: Path | str, base: StoreBase, listing: StoreListing, *, as_json: bool) -> None:
    """Print the deltas of a store.

    Args:
        store: as it was given.
        base: of the store.
        listing: what is in it.
        as_json: print JSON instead of tables.
    """
    if as_json:
        print_json(
            {
                "store": str(store),
                "base": base.model_dump(),
                "deltas": [_row_as_json(delta) for delta in listing.deltas],
                **_oddities_as_json(listing.faults, listing.strangers),
            }
        )
        return
    print_lines([f"{store}: {_counted(len(listing.deltas), 'delta')} over {_base_in_words(base)}"])
    if listing.deltas:
        table = plain_table("name", "task", "method", "zeros, %", "bytes", "score, %", right=("zeros, %", "bytes"))
        for delta in listing.deltas:
            table.add_row(
                delta.name,
                printable(delta.task or "–"),
                printable(delta.method or "–"),
                percent(delta.sparsity) if delta.weights else "–",
                f"{delta.nbytes:,}",
                "\n".join(
                    f"{printable(f'{score.split} {score.metric}')} {percent(score.value)}" for score in delta.scores
                )
                or "–",
            )
        show(table, whole=True)
    print_lines(list(_oddities(listing.faults, listing.strangers)))


def report_verification(store: Path | str, base: StoreBase, result: StoreVerification, *, as_json: bool) -> None:
    """Print what came of checking a store; that there are faults is said on standard error as well.

    Args:
        store: as it was given.
        base: of the store.
        result: of the check.
        as_json: print JSON instead of tables.
    """
    faulty = list(dict.fromkeys(fault.name for fault in result.faults))
    if as_json:
        print_json(
            {
                "store": str(store),
                "base": base.model_dump(),
                "decoded": result.decoded,
                "intact": list(result.intact),
                **_oddities_as_json(result.faults, result.strangers),
            }
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
    store: Path | str,
    first: tuple[str, TaskDelta],
    second: tuple[str, TaskDelta],
    overlap: DeltaOverlap,
    *,
    by: str,
    as_json: bool,
) -> None:
    """Print what two deltas share.

    Args:
        store: as it was given.
        first: name of a delta, and the delta.
        second: of the other.
        overlap: of the two.
        by: what a row stands for: role, block or tensor.
        as_json: print JSON instead of tables.
    """
    if as_json:
        print_json(
            {
                "store": str(store),
                "first": {"name": first[0], "digest": first[1].digest},
                "second": {"name": second[0], "digest": second[1].digest},
                "by": by,
                **overlap_as_json(overlap, by),
                "values": [_distance_as_json(distance) for distance in overlap.values],
                "only_first": list(overlap.only_first),
                "only_second": list(overlap.only_second),
                "unlike": list(overlap.unlike),
            }
        )
        return
    for which, (name, delta) in (("first", first), ("second", second)):
        task, method = (delta.task.name or "not named"), (delta.method.kind or "not named")
        print_lines([f"{which}: {name} (task {printable(str(task))}, method {printable(str(method))})"])
    if overlap.tensors:
        show(overlap_table(overlap, by), whole=True)
        print_lines(_LEGEND)
    if overlap.values:
        table = plain_table(
            "values in both", "distance, L1 / √n", "angle / π", right=("distance, L1 / √n", "angle / π")
        )
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
    """The shared zeros of two deltas beside chance, as a table.

    Args:
        overlap: of the two.
        by: what a row stands for: role, block or tensor.
    """
    table = plain_table(by, *_NUMBERS, right=_NUMBERS)
    table.padding = (0, 1, 0, 0)  # so that the counts of a large model fit 80 columns
    for place, count in _grouped(overlap, by).items():
        table.add_row(printable(place.replace("_", " ") if by == "role" else place), *_cells(count))
    table.add_section()
    table.add_row("all", *_cells(overlap.total))
    return table


def overlap_as_json(overlap: DeltaOverlap, by: str) -> dict[str, Any]:
    """The shared zeros of two deltas beside chance, row by row and in total.

    Args:
        overlap: of the two.
        by: what a row stands for: role, block or tensor.
    """
    counts = _grouped(overlap, by)
    return {
        "zeros": [{by: place, **_count_as_json(count)} for place, count in counts.items()],
        "total": _count_as_json(overlap.total),
    }


def _cells(count: OverlapCount) -> Iterator[str]:
    yield from (f"{number:,}" for number in (count.first_zeros, count.second_zeros, count.shared))
    yield f"{count.expected:,.0f}" if count.expected >= 10 else f"{count.expected:.1f}"
    for ratio in (count.ratio, count.ratio_given_rows_and_columns):
        yield "–" if ratio is None else f"{ratio:.2f}"
    yield "–" if count.jaccard is None else f"{count.jaccard:.3f}"
    yield "–" if count.z is None else f"{count.z:.1f}"


def _grouped(overlap: DeltaOverlap, by: str) -> dict[str, OverlapCount]:
    if by == "tensor":
        return {tensor.name: tensor.count for tensor in overlap.tensors}
    if by == "block":
        return {"outside" if block is None else str(block): count for block, count in overlap.by_block().items()}
    return dict(overlap.by_role())


def _row_as_json(delta: StoredDelta) -> dict[str, Any]:
    return {
        "name": delta.name,
        "path": str(delta.path),
        "digest": delta.digest,
        "task": delta.task,
        "method": delta.method,
        "base": delta.base_name,
        "zeros": delta.zeros,
        "masked_weights": delta.weights,
        "sparsity": delta.sparsity,
        "bytes": delta.nbytes,
        "scores": [{"split": score.split, "metric": score.metric, "score": score.value} for score in delta.scores],
    }


def _count_as_json(count: OverlapCount) -> dict[str, Any]:
    return {
        "weights": count.weights,
        "first_zeros": count.first_zeros,
        "second_zeros": count.second_zeros,
        "shared": count.shared,
        "expected": count.expected,
        "expected_given_rows_and_columns": count.expected_given_rows_and_columns,
        "ratio": count.ratio,
        "ratio_given_rows_and_columns": count.ratio_given_rows_and_columns,
        "jaccard": count.jaccard,
        "z": count.z,
    }


def _distance_as_json(distance: ValueDistance) -> dict[str, Any]:
    return {
        "tensor": distance.name,
        "role": distance.role,
        "block": distance.block,
        "l1": distance.l1,
        "angle": distance.angle,
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
    revision = f" at {base.revision}" if base.revision else ""
    return f"{printable(base.name or 'a base that is not named')}{printable(revision)} (fingerprint {base.digest[:16]})"


def _zeros_in_words(delta: StoredDelta) -> str:
    if not delta.weights:
        return "no zeros, as values alone were trained"
    return f"{percent(delta.sparsity)} % zeros ({delta.zeros:,} of {delta.weights:,} weights)"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
