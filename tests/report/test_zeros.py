"""The map of zeros: what it shows, and how it is written."""

from pathlib import Path

import pytest

from supermask.analysis import ZeroCount, ZerosTable
from supermask.report.drawing import save_figure
from supermask.report.zeros import zeros_figure

TABLE = ZerosTable(
    roles=("value", "pooler"),
    blocks=(0, 1, None),
    cells={("value", 0): ZeroCount(1, 100), ("value", 1): ZeroCount(25, 100), ("pooler", None): ZeroCount(0, 50)},
)


def test_every_cell_and_every_total_is_written_out() -> None:
    axes = zeros_figure(TABLE, title="tiny: thresholded zeros").axes[0]
    texts = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    shown = {(0, 0): "1.0", (0, 1): "25", (0, 3): "13", (1, 2): "0.00", (1, 3): "0.00"}
    totals = {(2, 0): "1.0", (2, 1): "25", (2, 2): "0.00", (2, 3): "10"}
    assert texts == shown | totals
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "–", "all"]
    assert axes.get_title() == "tiny: thresholded zeros"


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_ending_decides_the_format(tmp_path: Path, ending: str, start: bytes) -> None:
    path = tmp_path / "new" / f"zeros.{ending}"
    save_figure(zeros_figure(TABLE, title="tiny"), path)
    assert path.read_bytes().startswith(start)
