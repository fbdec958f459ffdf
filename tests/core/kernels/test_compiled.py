import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from supermask.core.kernels import compiled as module


def uncached(compiler: Callable[..., Any]) -> Callable[..., Any]:
    """A compiler of numba's that finds nowhere to write."""

    def compile(*given: Any, cache: bool = False, **options: Any) -> Any:
        def refuse(function: Any) -> Any:
            raise RuntimeError("cannot cache function: no locator available")

        return refuse if cache else compiler(*given, **options)

    return compile


def test_compiling_goes_on_without_a_place_for_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("njit", "cfunc"):
        monkeypatch.setattr(numba, name, uncached(getattr(numba, name)))

    def halved(number: float) -> float:
        return number / 2

    def nothing(address: int) -> None:
        return

    function = module.compiled(halved)
    assert function(3.0) == 1.5
    assert function.targetoptions == {"nogil": True, "error_model": "numpy", "nopython": True, "boundscheck": None}
    module.CompiledTask(nothing).call(np.zeros(1, dtype=np.int64).ctypes.data)


TASK = """
import numpy as np
from numba.np.numpy_support import carray
from supermask.core.kernels.compiled import CompiledTask
from supermask.core.kernels.instructions import pointer_at
from {part} import added

def _task(address):
    carray(pointer_at(address), 1, np.int64)[0] += added()

task = CompiledTask(_task, uses=("{part}",))
"""
PART = """
from supermask.core.kernels.compiled import compiled

def _added():
    return {added}

added = compiled(_added)
"""


def test_a_task_is_read_from_disk_until_what_it_uses_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    names = ["part_of_a_task", "task_of_a_test"]
    (tmp_path / f"{names[1]}.py").write_text(TASK.format(part=names[0]))

    def run() -> tuple[int, int]:
        """As in a new process: what 3 becomes, and how often the disk had the code."""
        for name in names:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        task = importlib.import_module(names[1]).task
        number = np.array([3], dtype=np.int64)
        task.call(number.ctypes.data)
        return int(number[0]), task._callback.cache_hits

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / f"{names[0]}.py").write_text(PART.format(added=4))
    assert [run(), run()] == [(7, 0), (7, 1)]
    (tmp_path / f"{names[0]}.py").write_text(PART.format(added=39))  # numba alone would go on adding 4
    assert [run(), run()] == [(42, 0), (42, 1)]
    for name in names:
        sys.modules.pop(name)
