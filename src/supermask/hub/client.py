"""The hub's client library, imported when it is first needed."""

from __future__ import annotations

from typing import Any

from supermask.errors import MissingDependencyError

__all__ = ["import_client"]


def import_client(purpose: str) -> Any:
    """The module `huggingface_hub`.

    Args:
        purpose: what it is needed for, for the message.

    Raises:
        MissingDependencyError: if it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs huggingface_hub, which is not installed; run: pip install 'supermask[hub]'"
        ) from error
    return huggingface_hub
