"""Text from a delta's document in a model card, where it can neither be markup nor end what it stands in.

Whoever made a delta chose these texts, and others will look at the card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["as_code", "as_fenced_json", "as_python_string", "one_line", "slug"]

_LONGEST = 120


def one_line(text: object, *, longest: int = _LONGEST) -> str:
    r"""A text without line ends, control characters, invisible and text-turning characters, cut to a length.

    Args:
        text: anything; it is shown as `str` shows it.
        longest: how many characters are kept.

    Example:
        >>> one_line("a\n---\nb\u202e")
        'a --- b?'
    """
    words = " ".join(str(text).split())
    plain = "".join(character if character.isprintable() else "?" for character in words)
    return plain if len(plain) <= longest else plain[: longest - 3] + "..."


def as_code(text: object) -> str:
    r"""A text in a code span, where Markdown and HTML mean nothing, fit for a table's cell too.

    Example:
        >>> as_code("a|b `c` <img>\nd")
        "`a¦b 'c' <img> d`"
        >>> as_code("")
        '(empty)'
    """
    # Not escaped but replaced: what `\|` means depends on where it stands, and on who renders it.
    plain = one_line(text).replace("`", "'").replace("|", "¦")
    return f"`{plain}`" if plain else "(empty)"


def as_python_string(text: str) -> str:
    r"""A text as a string of Python, in ASCII and on one line.

    Example:
        >>> print(as_python_string('"); import os\n'))
        "\"); import os\n"
    """
    return json.dumps(text)


def as_fenced_json(value: Mapping[str, Any]) -> str:
    r"""JSON in a fenced block: ASCII, and no line of it can end the fence.

    Example:
        >>> print(as_fenced_json({"a": "```\n<b>"}))
        ```json
        {
          "a": "```\n<b>"
        }
        ```
    """
    return f"```json\n{json.dumps(value, indent=2, sort_keys=True)}\n```"


def slug(text: object) -> str:
    """A text as an identifier of the hub: letters, digits, `.`, `_` and `-`; empty if nothing is left.

    Example:
        >>> slug("stars & stripes: v2")
        'stars-stripes-v2'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else " " for c in str(text))
    return "-".join(kept.split())[:96].strip("-._")
