"""Figures as elements of a page: they take the page's colours and its typeface, so that they read in light and dark."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from supermask.report.figures.style import GRID, INK, MISSING, MUTED, SERIES

__all__ = ["COLOUR_VARIABLES", "inline_svg"]

COLOUR_VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    MISSING: "--missing",
    **{colour: f"--series-{index}" for index, colour in enumerate(SERIES)},
}
"""The CSS variable that stands for each colour of `supermask.report.figures.style`."""

_COLOUR = re.compile("|".join(map(re.escape, COLOUR_VARIABLES)), re.IGNORECASE)
_FAMILY = re.compile(r"font-family: [^;\"]*")
_SHORTHAND = re.compile(r"(font: [^;\"]*?px) [^;\"]*")
_IDENTIFIER = re.compile(r'\bid="([^"]+)"|href="#([^"]+)"|url\(#([^)]+)\)')


def inline_svg(svg: bytes, *, name: str, alt: str, width_pixels: int) -> str:
    """A figure's SVG file as an element for a page.

    Colours become CSS variables with the file's colour as fallback, typefaces the page's, and identifiers get a prefix,
    because a page has several figures and each identifier once.

    Args:
        svg: the file, drawn on a transparent ground by `supermask.report.figures`.
        name: the prefix, unique on the page.
        alt: what there is to see.
        width_pixels: width at most.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Matplotlib's style element would reach over the whole page; the page's style sheet has the rule for its figures.
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", text, flags=re.DOTALL)
    text = _COLOUR.sub(lambda found: f"var({COLOUR_VARIABLES[found[0].lower()]}, {found[0]})", text)
    text = _FAMILY.sub("font-family: inherit", text)
    text = _SHORTHAND.sub(r"\1 var(--typeface, sans-serif)", text)
    text = _IDENTIFIER.sub(lambda found: _prefixed(found, name), text)
    view = re.search(r'viewBox="[^"]+"', text)
    start = text.index(">") + 1
    opening = (
        f'<svg {view[0] if view else ""} class="figure" role="img" aria-label="{escape(alt, quote=True)}" '
        f'style="max-width: {width_pixels}px">'
    )
    # HTML knows the element and needs no namespaces.
    return opening + re.sub(r"\s*\n\s*", "\n", text[start:]).strip().replace("xlink:href", "href")


def _prefixed(found: re.Match[str], name: str) -> str:
    whole = found[0]
    identifier = next(group for group in found.groups() if group is not None)
    return whole.replace(identifier, f"{name}-{identifier}")
