"""The hot operations on masks, in fused forms: eager torch, compiled for the CPU, Triton for CUDA.

Every backend module offers the functions of `Kernels` on plain tensors and is held to `reference` by one test matrix:
the same keep masks bit for bit, the same masked weights, the same gradients to within stated rounding.
"""

from __future__ import annotations

from supermask.core.kernels.backend import (
    Backend,
    BackendStatus,
    Kernels,
    backend_for,
    backends,
    kernels_for,
    use_backend,
)

__all__ = ["Backend", "BackendStatus", "Kernels", "backend_for", "backends", "kernels_for", "use_backend"]
