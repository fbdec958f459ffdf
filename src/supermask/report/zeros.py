"""A map of where a delta's zeros are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from supermask.analysis import ZerosTable
from supermask.report.drawing import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["zeros_figure"]


def zeros_figure(table: ZerosTable, *, title: str) -> Figure:
    """A map of where the zeros are: roles down, blocks across, and the totals of each at the edges.

    Args:
        table: zeros by role and block.
        title: what the figure is of; say which task, and sampled or thresholded.

    Returns:
        The figure; colours are cividis, which reads the same with and without colour vision, on a square-root scale.

    Raises:
        MissingDependencyError: if matplotlib is not installed.

    Source: Figure 4 of the paper.
    """
    require_matplotlib()
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    percent = _percentages(table)
    rows, columns = len(table.roles), len(table.blocks)
    figure = Figure(figsize=(2.4 + 0.62 * (columns + 1), 1.5 + 0.42 * (rows + 1)), layout="constrained")
    axes = figure.subplots()
    # One dense place (the pooler, as a rule) would leave all others in one dark shade on a linear scale.
    highest = max((value for row in percent for value in row if not math.isnan(value)), default=0.0) or 1.0
    image = axes.imshow(percent, cmap="cividis", aspect="auto", norm=PowerNorm(0.5, vmin=0.0, vmax=highest))
    for row, values in enumerate(percent):
        for column, value in enumerate(values):
            if not math.isnan(value):
                colour = "black" if value > 0.3 * highest else "white"
                axes.text(column, row, _short(value), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(columns + 1), [*("–" if block is None else str(block) for block in table.blocks), "all"])
    axes.set_yticks(range(rows + 1), [*(role.replace("_", " ") for role in table.roles), "all"])
    axes.axhline(rows - 0.5, color="white", linewidth=2)
    axes.axvline(columns - 0.5, color="white", linewidth=2)
    axes.set_xlabel("block, from the input up" + (" (– outside the blocks)" if None in table.blocks else ""))
    axes.set_title(title, fontsize=10)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="zeros, % of weights", shrink=0.9)
    return figure


def _percentages(table: ZerosTable) -> list[list[float]]:
    """Sparsity in percent, roles down and blocks across, with a row and a column for all; NaN where nothing is."""
    rows = []
    for role in table.roles:
        cells = (table.cells.get((role, block)) for block in table.blocks)
        rows.append([*(cell.sparsity if cell else math.nan for cell in cells), table.of_role(role).sparsity])
    rows.append([*(table.of_block(block).sparsity for block in table.blocks), table.total.sparsity])
    return [[100 * share for share in row] for row in rows]


def _short(percent: float) -> str:
    return f"{percent:.0f}" if percent >= 10 else f"{percent:.1f}" if percent >= 1 else f"{percent:.2f}"
