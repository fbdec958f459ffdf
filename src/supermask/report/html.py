"""The one place where text from records becomes HTML: jinja2 templates that escape whatever they are given."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from supermask.errors import MissingDependencyError

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["environment"]


@functools.cache
def environment() -> Environment:
    """The report's templates.

    Raises:
        MissingDependencyError: if jinja2 is not installed.
    """
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
