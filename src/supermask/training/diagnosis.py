"""What this machine and its libraries offer: versions, devices, kernels, the hub; and what is wrong with them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, final

import torch

from supermask.core.kernels import backend_for, backends
from supermask.core.kernels.agreement import disagreement
from supermask.errors import SupermaskError
from supermask.prediction.given import resolve_precision
from supermask.training.provenance import current_environment

__all__ = ["Diagnosis", "Finding", "diagnose"]

_EXTRAS = {"transformers": "train", "accelerate": "train", "triton": None, "peft": "peft"}


@final
@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        topic: what it belongs to: `versions`, `devices`, `kernels`, `compiled code`, `hub`.
        name: what was looked at.
        value: what it is.
        state: `fine`; `worse` where something works, but less well than it could; `fault` where it does not.
        remedy: what to do; empty where all is fine.
    """

    topic: str
    name: str
    value: str
    state: Literal["fine", "worse", "fault"] = "fine"
    remedy: str = ""


@final
@dataclass(frozen=True)
class Diagnosis:
    """All findings, by topic."""

    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether there is no fault."""
        return all(finding.state != "fault" for finding in self.findings)


def diagnose() -> Diagnosis:
    """Look at versions, devices, kernels, compiled code and the hub's settings; compute a little, fetch nothing.

    Example:
        >>> {finding.name: finding.value for finding in diagnose().findings}["python"] == platform.python_version()
        True
    """
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (_versions, _devices, _kernels, _compiled_code, _hub)
    return Diagnosis(tuple(finding for look in looks for finding in look()))


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "supermask", metadata.version("supermask"))
    yield Finding("versions", "python", platform.python_version())
    yield Finding("versions", "torch", torch.__version__)
    yield Finding("versions", "numba", _version("numba") or "not installed")
    for library, extra in _EXTRAS.items():
        version = _version(library)
        yield Finding(
            "versions",
            library,
            version or "not installed",
            "fine" if version or extra is None else "worse",
            "" if version or extra is None else f"pip install 'supermask[{extra}]' if you need it",
        )


def _devices() -> Iterator[Finding]:
    environment = current_environment()
    yield Finding("devices", "cpu", f"{environment.device}, {_native_bf16('cpu')}")
    cores, threads = environment.cores, environment.threads
    crowded = threads > cores
    yield Finding(
        "devices",
        "threads",
        f"{threads} on {cores} cores",
        "worse" if crowded else "fine",
        f"more threads than cores slow each other down; set OMP_NUM_THREADS={cores}" if crowded else "",
    )
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        size = f"{device.total_memory / 2**30:.0f} GiB"
        capability = f"compute capability {device.major}.{device.minor}"
        yield Finding("devices", f"cuda:{index}", f"{device.name}, {size}, {capability}, {_native_bf16('cuda')}")
    if not torch.cuda.is_available():
        why = "torch is built without CUDA" if torch.version.cuda is None else "torch sees no device"
        yield Finding("devices", "cuda", f"none: {why}")


def _native_bf16(kind: str) -> str:
    return "bf16 native" if resolve_precision("auto", kind) == "bf16" else "no native bf16"


def _kernels() -> Iterator[Finding]:
    kinds = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for kind in kinds:
        try:
            forced = ", forced by SUPERMASK_BACKEND" if os.environ.get("SUPERMASK_BACKEND") else ""
            yield Finding("kernels", f"for {kind} tensors", backend_for(kind) + forced)
        except SupermaskError as error:
            yield Finding("kernels", f"for {kind} tensors", "none", "fault", str(error))
    for status in backends():
        value = f"runs on {status.devices}" if status.available else f"not here: {status.reason}"
        yield Finding("kernels", status.name, value)
        if status.available and status.name != "eager":
            runs_on = [kind for kind in kinds if kind in status.devices]
            yield from (_agreement(status.name, kind) for kind in runs_on)


def _agreement(backend: Literal["eager", "cpu", "triton"], kind: str) -> Finding:
    name = f"{backend} against eager, on {kind}"
    remedy = "its masks would not be those of other machines: set SUPERMASK_BACKEND=eager, and report this"
    try:
        differs = disagreement(backend, kind)
    except Exception as error:  # a compiler or a driver may fail in any way
        return Finding("kernels", name, f"fails: {type(error).__name__}: {error}", "fault", remedy)
    if differs:
        return Finding("kernels", name, f"{differs} differs", "fault", remedy)
    return Finding("kernels", name, "the same masks bit for bit")


def _compiled_code() -> Iterator[Finding]:
    if not _version("numba"):
        return  # a fault of the kernels
    from supermask.core.distance_kernels import unequal

    place = getattr(getattr(unequal, "stats", None), "cache_path", None)
    if place is not None and _writable(Path(place)):
        yield Finding("compiled code", "kept in", str(place))
        return
    yield Finding(
        "compiled code",
        "kept in",
        "nowhere" if place is None else f"{place}, which is not writable",
        "worse",
        "every process compiles anew, for some seconds; set NUMBA_CACHE_DIR to a folder that can be written to",
    )


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it is not there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _hub() -> Iterator[Finding]:
    from supermask.models import DEFAULT_BASE, known_bases

    installed = {base.name: base for base in known_bases()}[DEFAULT_BASE]
    yield Finding(
        "hub",
        f"base {DEFAULT_BASE}",
        "installed" if installed.installed else "not installed",
        "fine" if installed.installed else "worse",
        "" if installed.installed else installed.install,
    )
    if not _version("huggingface_hub"):
        yield Finding(
            "hub", "hub", "huggingface_hub is not installed", "worse", "pip install 'supermask[hub]' if you need it"
        )
        return
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    yield Finding("hub", "hub", "offline: HF_HUB_OFFLINE is set, the cache alone is read" if offline else "online")
    yield Finding("hub", "cache", str(constants.HF_HUB_CACHE))


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""
