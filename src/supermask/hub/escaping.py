"""Text from a delta's document in a model card, where it can neither be markup nor end what it stands in.

Whoever made a delta chose these texts, and others will look at the card.
"""

from __future__ import annotations

import re
from typing import final

__all__ = ["Source", "as_markdown", "one_line", "slug"]


@final
class Source(str):
    """Text that goes into a card as it is: code that was quoted for its own language."""


def as_markdown(value: object) -> str:
    r"""Anything as Markdown: whole numbers with commas, and texts as code, where Markdown and HTML mean nothing.

    Example:
        >>> as_markdown("a|b `c` <img>\nd"), as_markdown(1345)
        ("`a¦b 'c' <img> d`", '1,345')
    """
    if isinstance(value, Source):
        return str(value)
    if type(value) is int and abs(value) < 1 << 53:
        return f"{value:,}"
    # Not escaped but replaced: what `\|` means depends on where it stands, and on who renders it.
    plain = one_line(value).replace("`", "'").replace("|", "¦")
    return f"`{plain}`" if plain else "(empty)"


def one_line(text: object, *, longest: int = 120) -> str:
    r"""A text without line ends, control characters, invisible and text-turning characters, cut to a length.

    Example:
        >>> one_line("a\n---\nb\u202e")
        'a --- b?'
    """
    words = " ".join(str(text).split())
    plain = "".join(character if character.isprintable() else "?" for character in words)
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."


def slug(text: object) -> str:
    """A text as an identifier of the hub: letters, digits, `.`, `_` and `-`; empty if nothing is left.

    Example:
        >>> slug("stars & stripes: v2")
        'stars-stripes-v2'
    """
    return "-".join(re.findall(r"[A-Za-z0-9._-]+", str(text or "")))[:96].strip("-._")
