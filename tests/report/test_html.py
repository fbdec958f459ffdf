"""Figures as elements of a page."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from supermask.report.drawing import figure_bytes
from supermask.report.figures import study_figure
from supermask.report.html import COLOUR_VARIABLES, inline_svg
from tiny_records import results_of


@pytest.fixture(scope="module", params=["figure6", "figure7"])
def element(request: pytest.FixtureRequest, recorded: Path) -> tuple[str, str]:
    """A figure's name, and the figure as an element."""
    svg = figure_bytes(study_figure(results_of(request.param, recorded)).draw(), "svg", transparent=True)
    return request.param, inline_svg(svg, name=request.param, alt='All & "more" <than>', width_pixels=460)


def test_an_element_is_well_formed_and_described(element: tuple[str, str]) -> None:
    root = ElementTree.fromstring(element[1])
    assert root.tag == "svg" and root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == 'All & "more" <than>'
    assert root.attrib["viewBox"].startswith("0 0 237.6")


def test_colours_and_typeface_are_the_pages(element: tuple[str, str]) -> None:
    name, text = element
    for colour, variable in COLOUR_VARIABLES.items():
        assert len(re.findall(colour, text)) == len(re.findall(f"var\\({variable}, {colour}\\)", text))
    assert "var(--ink, " in text and "DejaVu" not in text and "font-family: inherit" in text
    # What stands on a coloured cell keeps its own contrast, whatever the page's colours.
    if name == "figure7":
        assert "fill: #ffffff" in text and "var(--series" not in text


def test_nothing_of_the_file_reaches_the_rest_of_the_page(element: tuple[str, str]) -> None:
    name, text = element
    assert "<style" not in text and "<metadata" not in text and "http" not in text
    identifiers = re.findall(r'\bid="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers)) and all(one.startswith(f"{name}-") for one in identifiers)
    for reference in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text):
        assert "".join(reference) in identifiers
