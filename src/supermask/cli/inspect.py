"""`supermask inspect`: what a stored delta says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from supermask.cli.options import AsJson, DeltaPath, option

__all__ = ["EXAMPLES", "inspect"]

EXAMPLES = (
    "supermask inspect sentiment",
    "supermask inspect sentiment --figure zeros.svg",
    "supermask inspect sentiment --json",
)


def inspect(
    delta: DeltaPath,
    figure: Annotated[Path | None, option(None, "FILE", "Draw where the zeros are, as .png, .svg or .pdf.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a stored delta holds, with its zeros by role and block.

    Only the file's header is read; masks and values are not decoded.
    """
    from supermask.cli.inspect_report import draw, report
    from supermask.cli.stored import delta_path
    from supermask.deltas import read_document

    path = delta_path(delta)
    document = read_document(path)
    if figure is not None:
        draw(document, figure)
    report(document, path, figure=figure, as_json=as_json)
