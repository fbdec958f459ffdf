"""What a result was computed with, so that it can be computed again."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import final

import torch

from supermask.configuration import Configuration

__all__ = ["Environment", "current_environment", "source_digest"]


@final
class Environment(Configuration):
    """The code and the machine.

    Args:
        supermask: version of this package.
        source: digest of its source files, which tells apart two states of one version.
        python: version of Python.
        torch: version of PyTorch.
        transformers: version of transformers.
        platform: operating system and architecture.
        device: the processor or accelerator that computed.
        cores: CPU cores that this process may use.
        threads: threads that torch computes with.
    """

    supermask: str
    source: str
    python: str
    torch: str
    transformers: str
    platform: str
    device: str
    cores: int
    threads: int


def current_environment(device: torch.device | str = "cpu") -> Environment:
    """The environment of this process.

    Args:
        device: where the model computes.
    """
    device = torch.device(device)
    return Environment(
        supermask=metadata.version("supermask"),
        source=source_digest(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=metadata.version("transformers"),
        platform=f"{platform.system()} {platform.machine()}",
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
    )


@functools.cache
def source_digest() -> str:
    """SHA-256 over the package's source files, their paths and bytes, in hexadecimal (first 16 digits)."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}:{len(content)}:".encode() + content)
    return digest.hexdigest()[:16]


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
