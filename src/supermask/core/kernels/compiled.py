"""Compiling loops with numba.

numba takes a while to load, so modules that use this one are imported where they are first used.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numba
from numba import types

__all__ = ["CompiledTask", "compiled"]


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """A function compiled to machine code on its first call, and kept on disk for the next process where possible."""
    return _kept_on_disk(numba.njit, function, nogil=True, **options)


def _kept_on_disk(compiler: Callable[..., Any], function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    # Division by zero gives infinity or what is not a number, as everywhere in torch, and no exception.
    options = {"error_model": "numpy"} | options
    try:
        return compiler(*given, cache=True, **options)(function)
    except RuntimeError:  # nowhere to write a cache, as in a container that is read-only and has no home
        return compiler(*given, **options)(function)


@final
class CompiledTask:
    """A function as bare machine code that any thread can enter: without interpreter, lock or exception.

    Args:
        function: takes the address of a job, an integer, and returns nothing.
        uses: names of the modules whose compiled functions it calls. numba throws what it has on disk away when a
            function's own file changes; this does so when one of these does.
    """

    def __init__(self, function: Callable[[int], None], *, uses: tuple[str, ...] = ()) -> None:
        self._function = function
        self._uses = uses
        self._compiling = threading.Lock()

    @functools.cached_property
    def address(self) -> int:
        """Where the machine code is; compiled, or read from disk, when first asked for."""
        with self._compiling:
            return int(self._callback.address)

    @functools.cached_property
    def call(self) -> Callable[[int], None]:
        """The machine code as a function; it does not hold the interpreter's lock while it runs."""
        return ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.address)

    @functools.cached_property
    def _callback(self) -> Any:
        digest = hashlib.blake2b(digest_size=6)
        for name in self._uses:
            digest.update(Path(str(sys.modules[name].__file__)).read_bytes())
        # numba names its file after the function, so other contents make another file.
        self._function.__qualname__ = f"{self._function.__name__}_{digest.hexdigest()}"
        return _kept_on_disk(numba.cfunc, self._function, types.void(types.int64))
