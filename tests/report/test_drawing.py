"""How figures look, and figures as files."""

from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from supermask.errors import ConfigurationError
from supermask.report.drawing import SERIES, figure_bytes, save_figure


def drawn() -> Figure:
    figure = Figure(figsize=(2, 1))
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0, 1, 0.5], label="a line")
    axes.fill_between([0, 1], [0, 1], clip_on=True)
    axes.legend(frameon=False)
    return figure


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_the_same_figure_gives_the_same_bytes(kind: str) -> None:
    assert figure_bytes(drawn(), kind) == figure_bytes(drawn(), kind)


def test_nothing_in_a_file_tells_when_or_by_what_it_was_made() -> None:
    svg = figure_bytes(drawn(), "svg").decode()
    assert ">a line</text>" in svg  # text stays text
    assert "date" not in svg.lower() and "creator" not in svg.lower()
    assert b"Software" not in figure_bytes(drawn(), "png")


def test_the_readers_own_settings_have_no_say() -> None:
    plain = figure_bytes(drawn(), "svg")
    with matplotlib.rc_context({"svg.fonttype": "path", "savefig.facecolor": "red", "savefig.bbox": "tight"}):
        assert figure_bytes(drawn(), "svg") == plain


def test_a_transparent_ground_is_left_out() -> None:
    assert b"fill: #ffffff" in figure_bytes(drawn(), "svg")
    assert b"fill: #ffffff" not in figure_bytes(drawn(), "svg", transparent=True)


@pytest.mark.parametrize("name", ["figure", "figure.bmp"])
def test_another_ending_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="written as png, svg, pdf"):
        save_figure(drawn(), tmp_path / name)


def test_colours_differ_and_are_dark_enough_on_white() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len(set(SERIES)) == 8
    assert all(1.05 / (luminance(colour) + 0.05) >= 4.5 for colour in SERIES)
