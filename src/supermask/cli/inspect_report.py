"""A delta's document as tables, as JSON and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supermask.analysis import ZerosTable, zeros_by_place
from supermask.cli.heat import zeros_map
from supermask.cli.printing import facts_table, percent, plain_table, print_json, print_lines, show, shown_bytes
from supermask.core import entropy_bits
from supermask.deltas import DeltaDocument
from supermask.deltas.document import FORMAT_VERSION
from supermask.deltas.file import DELTA, file_nbytes
from supermask.report.drawing import save_figure
from supermask.report.zeros import zeros_figure

__all__ = ["bits_per_weight", "draw", "report"]


def bits_per_weight(document: DeltaDocument) -> float | None:
    """Bits that the coded keep masks take, a masked weight; None if no weight is masked."""
    bits = 8 * sum(change.keep_nbytes or 0 for change in document.changes)
    return bits / document.weights if document.weights else None


def draw(document: DeltaDocument, path: Path) -> None:
    """Draw where a delta's zeros are into a file."""
    kind = document.method.kind or "delta"
    what = f"{document.task.name or 'task'}, {'thresholded mask' if kind == 'supermask' else kind}"
    figure = zeros_figure(zeros_by_place(document.changes), title=f"{what}: {percent(document.sparsity)} % zeros")
    save_figure(figure, path)


def report(document: DeltaDocument, path: Path, *, figure: Path | None, as_json: bool) -> None:
    """Print what the delta at a path says about itself; `figure` is where its zeros were drawn, if they were."""
    zeros = zeros_by_place(document.changes) if document.weights else None
    if as_json:
        print_json(_as_json(document, path, zeros, figure))
        return
    print_lines([str(path)])
    show(facts_table(_facts(document)))
    if zeros is not None:
        print_lines(["zeros, % of the weights in each place; blocks from the input up"])
        show(zeros_map(zeros))
    elif moved := _moved_by_role(document):
        table = plain_table("role", "tensors", "weights", right=("tensors", "weights"))
        for role, (tensors, weights) in moved.items():
            table.add_row(role.replace("_", " "), f"{tensors:,}", f"{weights:,}")
        print_lines(["values that moved"])
        show(table)
    if figure is not None:
        print_lines([f"figure: {figure}"])


def _facts(document: DeltaDocument) -> Iterator[tuple[str, str]]:
    base, task, training = document.base, document.task, document.training
    revision = f" at {base.revision}" if base.revision else ""
    yield "base", f"{base.name or 'not named'}{revision}, {base.architecture}, {base.dtype}"
    yield "fingerprint", base.digest[:16]
    labels = task.label_names
    classes = f", classes: {', '.join(labels)}" if labels else ""
    yield "task", f"{task.name or 'not named'}, {task.kind or 'of unknown kind'}{classes}"
    yield "method", f"{(document.method.kind or 'not named')} {_settings(document.method.settings)}".rstrip()
    for split, values in training.scores.items():
        yield f"scores, {split}", ", ".join(f"{metric} {percent(value)} %" for metric, value in values.items())
    seed = f", seed {training.seed}" if training.seed is not None else ""
    yield "trained", f"{'an unknown number of' if training.steps is None else training.steps} steps{seed}"
    head = [change for change in document.changes if change.name in document.head]
    yield "head", f"{sum(change.weights for change in head):,} values ({', '.join(document.head) or 'none'})"
    yield "zeros", _zeros_in_words(document)
    bits = bits_per_weight(document)
    if bits is not None:
        entropy = entropy_bits(document.sparsity)
        yield "mask", f"{bits:.4f} bits a masked weight; {entropy:.4f} if zeros fell at random"
    yield "format", f"version {FORMAT_VERSION}"
    yield "size", shown_bytes(file_nbytes(DELTA, document))


def _zeros_in_words(document: DeltaDocument) -> str:
    if not document.weights:
        return "none, as values alone were trained"
    kinds = {change.kind for change in document.changes}
    which = "pruned" if "sparse_values" in kinds else "masked"
    return f"{percent(document.sparsity)} % ({document.zeros:,} of {document.weights:,} {which} weights)"


def _settings(settings: dict[str, Any]) -> str:
    def shown(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    told = [f"{name}={shown(value)}" for name, value in settings.items() if value not in ([], None)]
    return f"({'; '.join(told)})" if told else ""


def _moved_by_role(document: DeltaDocument) -> dict[str, tuple[int, int]]:
    moved: dict[str, tuple[int, int]] = {}
    for change in document.changes:
        role = change.role or "unnamed"
        tensors, weights = moved.get(role, (0, 0))
        moved[role] = (tensors + 1, weights + math.prod(change.shape))
    return moved


def _as_json(document: DeltaDocument, path: Path, zeros: ZerosTable | None, figure: Path | None) -> dict[str, Any]:
    places = [
        {"role": role, "block": block, "zeros": cell.zeros, "weights": cell.weights, "sparsity": cell.sparsity}
        for (role, block), cell in (zeros.cells if zeros is not None else {}).items()
    ]
    moved = {role: {"tensors": tensors, "weights": n} for role, (tensors, n) in _moved_by_role(document).items()}
    return {
        "path": str(path),
        "digest": document.digest,
        "bytes": file_nbytes(DELTA, document),
        "format_version": FORMAT_VERSION,
        "base": document.base.model_dump(exclude={"tensors"}),
        "task": document.task.model_dump(mode="json", exclude_unset=True),
        "method": document.method.describe(),
        "training": document.training.model_dump(mode="json", exclude_unset=True),
        "head": list(document.head),
        "zeros": document.zeros,
        "masked_weights": document.weights,
        "sparsity": document.sparsity,
        "bits_per_masked_weight": bits_per_weight(document),
        "entropy_bits_per_weight": entropy_bits(document.sparsity) if document.weights else None,
        "zeros_by_place": places,
        "changed_by_role": moved,
        "figure": str(figure) if figure is not None else None,
    }
