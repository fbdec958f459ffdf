"""How much memory something takes at its peak, torch and numpy and all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

__all__ = ["can_measure", "current_kib", "peak_growth_mib", "peak_kib", "reset_peak"]

RESET = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


def can_measure() -> bool:
    """Whether this system says what a process had at most, and can forget it: Linux does."""
    try:
        reset_peak()
    except OSError:
        return False
    return True


def reset_peak() -> None:
    """Forget the peak so far."""
    RESET.write_text("5")


def peak_kib() -> int:
    """The most memory of this process since `reset_peak`."""
    return _told("VmHWM")


def current_kib() -> int:
    """The memory of this process."""
    return _told("VmRSS")


def peak_growth_mib(action: Callable[[], object]) -> float:
    """How much more memory this process had at most during an action than before it."""
    reset_peak()
    before = current_kib()
    action()
    return (peak_kib() - before) / 1024


def _told(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1])
