"""Where text from records and drawn figures become HTML, each escaped once, by jinja2."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from supermask.errors import MissingDependencyError
from supermask.report.drawing import GRID, INK, MISSING, MUTED, SERIES

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["COLOUR_VARIABLES", "inline_svg", "templates"]

COLOUR_VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    MISSING: "--missing",
    **{colour: f"--series-{index}" for index, colour in enumerate(SERIES)},
}
"""The CSS variable that stands for each colour of `supermask.report.drawing`."""

_COLOUR = re.compile("|".join(map(re.escape, COLOUR_VARIABLES)), re.IGNORECASE)
_IDENTIFIER = re.compile(r'(\bid="|href="#|url\(#)([^")]+)')
# Matplotlib's style element would reach over the whole page, whose style sheet has the rule for figures.
_OF_A_FILE = re.compile(r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</style>\s*</defs>\s*", re.DOTALL)


@functools.cache
def templates() -> Environment:
    """The report's templates, which escape whatever they are given."""
    try:
        import jinja2
        from markupsafe import Markup, escape
    except ImportError:
        raise MissingDependencyError("the report needs jinja2; install it: pip install 'supermask[study]'") from None
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("supermask.report", "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A percent sign stays with its number wherever the line breaks; an interval stands under its number.
    found.filters["tight"] = lambda text: text.replace(" %", "\u00a0%")
    found.filters["broken"] = lambda text: escape(text).replace(" [", Markup(" <br>["))
    return found


def inline_svg(svg: bytes, *, name: str, alt: str, width_pixels: int) -> Markup:
    """A figure's SVG file as an element in the page's colours and typeface; its identifiers start with the name."""
    from markupsafe import Markup

    text = svg.decode()
    text = _OF_A_FILE.sub("", text[text.index("<svg") :])
    # CSS variables with the file's colour as fallback, and identifiers that are unique on the page.
    text = _COLOUR.sub(lambda found: f"var({COLOUR_VARIABLES[found[0].lower()]}, {found[0]})", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: inherit", text)
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--typeface, sans-serif)", text)
    text = _IDENTIFIER.sub(lambda found: f"{found[1]}{name}-{found[2]}", text)
    opening, _, drawing = text.partition(">")
    view = re.search(r'viewBox="([^"]+)"', opening)
    element = Markup('<svg viewBox="{}" class="figure" role="img" aria-label="{}" style="max-width: {}px">').format(
        view[1] if view else "", alt, width_pixels
    )
    # HTML knows the element and needs no namespaces; matplotlib has escaped the texts.
    return element + Markup(re.sub(r"\s*\n\s*", "\n", drawing).strip().replace("xlink:href", "href"))
