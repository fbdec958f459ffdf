"""A delta's document as tables, as JSON and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supermask.analysis import zeros_by_place
from supermask.cli.heat import zeros_map
from supermask.cli.printing import PlainTable, answer, facts_table, percent, plain_table, shown_bytes
from supermask.core import entropy_bits
from supermask.deltas import DeltaDocument
from supermask.deltas.document import FORMAT_VERSION
from supermask.deltas.file import DELTA, file_nbytes
from supermask.report.drawing import save_figure
from supermask.report.zeros import zeros_figure

__all__ = ["draw", "report"]


def draw(document: DeltaDocument, path: Path) -> None:
    """Draw where a delta's zeros are into a file."""
    kind = document.method.kind or "delta"
    what = f"{document.task.name or 'task'}, {'thresholded mask' if kind == 'supermask' else kind}"
    figure = zeros_figure(zeros_by_place(document.changes), title=f"{what}: {percent(document.sparsity)} % zeros")
    save_figure(figure, path)


def report(document: DeltaDocument, path: Path, *, figure: Path | None, as_json: bool) -> None:
    """Print what the delta at a path says about itself; `figure` is where its zeros were drawn, if they were."""
    zeros = zeros_by_place(document.changes) if document.weights else None
    moved: dict[str, dict[str, int]] = {}
    for change in document.changes:
        counts = moved.setdefault(change.role or "unnamed", {"tensors": 0, "weights": 0})
        counts["tensors"] += 1
        counts["weights"] += math.prod(change.shape)
    told: list[str | PlainTable] = [str(path), facts_table(_facts(document))]
    if zeros is not None:
        told += ["zeros, % of the weights in each place; blocks from the input up", zeros_map(zeros)]
    elif moved:
        rows = (
            (role.replace("_", " "), *(f"{count:,}" for count in counts.values())) for role, counts in moved.items()
        )
        told += ["values that moved", plain_table("role", ">tensors", ">weights", rows=rows)]
    if figure is not None:
        told.append(f"figure: {figure}")
    places = [
        {"role": role, "block": block, "zeros": cell.zeros, "weights": cell.weights, "sparsity": cell.sparsity}
        for (role, block), cell in (zeros.cells if zeros is not None else {}).items()
    ]
    inspected = {
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
        "bits_per_masked_weight": _bits_per_weight(document),
        "entropy_bits_per_weight": entropy_bits(document.sparsity) if document.weights else None,
        "zeros_by_place": places,
        "changed_by_role": moved,
        "figure": str(figure) if figure is not None else None,
    }
    answer(inspected, told, as_json=as_json)


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
    bits = _bits_per_weight(document)
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


def _bits_per_weight(document: DeltaDocument) -> float | None:
    bits = 8 * sum(change.keep_nbytes or 0 for change in document.changes)
    return bits / document.weights if document.weights else None
