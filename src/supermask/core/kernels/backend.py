"""Which form of the operations works on which device: chosen by the device, unless you choose."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast, final, get_args

import torch

from supermask.errors import ConfigurationError, MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

    from supermask.core.counter_random import KeyWords
    from supermask.core.kernels.adam8 import EightBitMoments
    from supermask.core.kernels.arguments import AdamStep

__all__ = [
    "OLDEST_TRITON",
    "Backend",
    "BackendStatus",
    "Kernels",
    "backend_for",
    "backends",
    "kernels_for",
    "use_backend",
]

Backend = Literal["eager", "cpu", "triton"]

VARIABLE = "SUPERMASK_BACKEND"
OLDEST_TRITON = (3, 2)
"""The kernels need it or a newer one; torch 2.6 is the first that brings it."""

_MODULES = {
    "eager": "supermask.core.kernels.reference",
    "cpu": "supermask.core.kernels.cpu",
    "triton": "supermask.core.kernels.triton_kernels",
}
_forced: contextvars.ContextVar[Backend | None] = contextvars.ContextVar("supermask_backend", default=None)


class Kernels(Protocol):
    """What every backend's module offers; `supermask.core.kernels.reference` says what each operation means."""

    def draw_keep_mask(self, mask_logits: Tensor, key: KeyWords) -> Tensor:
        """The drawn keep mask, boolean."""

    def draw_masked_weight(
        self, weight: Tensor, mask_logits: Tensor, key: KeyWords, *, dtype: torch.dtype, out: Tensor | None = None
    ) -> Tensor:
        """The weight under the drawn mask."""

    def threshold_masked_weight(
        self, weight: Tensor, mask_logits: Tensor, *, dtype: torch.dtype, out: Tensor | None = None
    ) -> Tensor:
        """The weight under the thresholded mask."""

    def mask_logit_gradient(
        self, weight_gradient: Tensor, weight: Tensor, mask_logits: Tensor, *, through: bool, out: Tensor | None = None
    ) -> Tensor:
        """∂L/∂ν, float32."""

    def adam_step_8bit_(
        self, mask_logits: Tensor, gradient: Tensor, moments: EightBitMoments, adam: AdamStep, *, key: KeyWords
    ) -> None:
        """One step of Adam on ν with moments in 8 bits, in place."""


@final
@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can run here.

    Args:
        name: of the backend.
        devices: the kinds of device that it works on.
        available: whether it can run.
        reason: why not; or what it needs, where it can.
        automatic_for: the kinds of device whose tensors it gets now if nothing is forced.
    """

    name: Backend
    devices: str
    available: bool
    reason: str
    automatic_for: tuple[str, ...]


def backend_for(device: torch.device | str) -> Backend:
    """The backend for tensors of a device: the forced one, or the fastest that can run.

    `use_backend` comes before the environment variable SUPERMASK_BACKEND, and that before the automatic choice: "cpu"
    for CPU tensors, "triton" for CUDA tensors where triton is installed and new enough, "eager" for all others.

    Raises:
        ConfigurationError: if the forced backend cannot work on that device.
        MissingDependencyError: if it, or the one for the CPU, is not installed.
        UnknownNameError: if SUPERMASK_BACKEND names no backend.

    Example:
        >>> with use_backend("eager"):
        ...     backend_for("cpu")
        'eager'
    """
    kind = device.type if isinstance(device, torch.device) else torch.device(device).type
    forced = forced_backend()
    if forced is None:
        return _automatic(kind)
    if forced == "eager":
        return forced
    _must_be_installed(forced)
    if kind not in _kinds(forced):
        raise ConfigurationError(
            f"backend {forced!r}, forced by {_forced_by()}, works on {' and '.join(_kinds(forced))} tensors; received "
            f'{kind} ones. Force "eager", which works everywhere, or nothing'
        )
    return forced


def kernels_for(device: torch.device | str) -> Kernels:
    """The operations for tensors of a device, as `backend_for` chooses them."""
    return kernels_of(backend_for(device))


def kernels_of(backend: Backend) -> Kernels:
    """The operations of one backend; an error says what to install if they cannot be imported."""
    try:
        return cast("Kernels", importlib.import_module(_MODULES[backend]))
    except MissingDependencyError:
        raise
    except ImportError as error:
        raise MissingDependencyError(
            f"backend {backend!r} cannot be loaded: {error}. Reinstall {_LIBRARY.get(backend, 'supermask')}, or force "
            f"the slower {VARIABLE}=eager"
        ) from error


@contextlib.contextmanager
def use_backend(name: Backend) -> Iterator[None]:
    """Force a backend for what this thread (or asyncio task) does inside.

    Other threads choose for themselves, the one too in which autograd runs a GPU's backward pass; SUPERMASK_BACKEND
    holds for all.

    Raises:
        UnknownNameError: if there is no such backend.
        MissingDependencyError: if it is not installed.

    Example:
        >>> with use_backend("eager"):
        ...     forced_backend()
        'eager'
    """
    _must_be_known(name, "use_backend")
    _must_be_installed(name)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def forced_backend() -> Backend | None:
    """The backend that `use_backend` or SUPERMASK_BACKEND forces, None if the choice is automatic."""
    forced = _forced.get()
    if forced is not None:
        return forced
    named = os.environ.get(VARIABLE, "")
    if not named:
        return None
    _must_be_known(named, VARIABLE)
    return cast("Backend", named)


def backends() -> tuple[BackendStatus, ...]:
    """Every backend: whether it can run here, and on what.

    Example:
        >>> [status.name for status in backends()]
        ['eager', 'cpu', 'triton']
    """
    statuses = []
    for name in get_args(Backend):
        why_not = _missing(name)
        if not why_not and name == "triton" and not torch.cuda.is_available() and not _triton_interprets():
            why_not = "torch sees no CUDA device"
        statuses.append(
            BackendStatus(
                name=name,
                devices="all" if name == "eager" else ", ".join(_kinds(name)),
                available=not why_not,
                reason=why_not,
                automatic_for=tuple(
                    kind for kind in ("cpu", "cuda") if not why_not and _automatic(kind, check=False) == name
                ),
            )
        )
    return tuple(statuses)


_LIBRARY = {"cpu": "numba", "triton": "triton"}


def _automatic(kind: str, *, check: bool = True) -> Backend:
    if kind == "cpu":
        if check:
            _must_be_installed("cpu")
        return "cpu"
    if kind == "cuda" and not _missing("triton"):
        return "triton"
    return "eager"


def _kinds(backend: Backend) -> tuple[str, ...]:
    """The kinds of device that a backend works on; "eager" is not asked."""
    if backend == "cpu":
        return ("cpu",)
    return ("cuda", "cpu") if _triton_interprets() else ("cuda",)


def _triton_interprets() -> bool:
    # Triton's own switch: kernels then run in Python, on the CPU, to be tested.
    return os.environ.get("TRITON_INTERPRET", "") == "1"


@functools.lru_cache(maxsize=8)  # asked at every draw, and a search of the file system each time
def _missing(backend: Backend) -> str:
    """Why a backend is not there, empty if it is. Looks, but loads nothing."""
    library = _LIBRARY.get(backend)
    if library is None:
        return ""
    if importlib.util.find_spec(library) is None:
        return f"{library} is not installed"
    if backend == "triton":
        with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):  # built from source, say
            version = importlib.metadata.version(library)
            if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TRITON:
                return f"triton {version} is older than {OLDEST_TRITON[0]}.{OLDEST_TRITON[1]}"
    return ""


def _must_be_installed(backend: Backend) -> None:
    why_not = _missing(backend)
    if why_not:
        raise MissingDependencyError(
            f"backend {backend!r} cannot run: {why_not}; pip install -U {_LIBRARY[backend]}, or force the slower "
            f"{VARIABLE}=eager"
        )


def _must_be_known(name: str, where: str) -> None:
    if name not in get_args(Backend):
        raise UnknownNameError(f"{name!r}, from {where}, is no backend; backends: {', '.join(get_args(Backend))}")


def _forced_by() -> str:
    return "use_backend" if _forced.get() is not None else VARIABLE
