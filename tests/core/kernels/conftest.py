"""The backends that tests are held to. Triton's runs on a GPU, or in its interpreter where TRITON_INTERPRET=1."""

import os
from collections.abc import Callable
from typing import Any, cast, final

import pytest
import torch
from torch import Tensor

from supermask.core.kernels import Backend, Kernels
from supermask.core.kernels.adam8 import EightBitMoments
from supermask.core.kernels.backend import kernels_of

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GUARD = 256  # bytes


@final
class Elsewhere:
    """A backend's operations on tensors of the CPU: these go to its device, lying as they lie, and come back.

    On either side of each lies memory that is not to be written.
    """

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def operation(*given: Any, **named: Any) -> Any:
            moved: list[tuple[Tensor, Tensor, list[Tensor]]] = []

            def move(value: Any) -> Any:
                if isinstance(value, EightBitMoments):
                    return EightBitMoments(*map(move, value))
                if not isinstance(value, Tensor) or value.device.type != "cpu":
                    return value
                span = sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True)) + 1
                start, size = GUARD + value.storage_offset() % 8 * value.itemsize, max(span, 0) * value.itemsize
                memory = torch.full((start + size + GUARD,), 7, dtype=torch.uint8, device=device)
                there = memory[start : start + size].view(value.dtype).as_strided(value.shape, value.stride())
                there.copy_(value.detach())
                moved.append((value, there, [memory[:start], memory[start + size :]]))
                return there.detach().requires_grad_(value.requires_grad)

            device = "cpu" if INTERPRETED else "cuda"
            result = getattr(self._kernels, name)(*map(move, given), **{key: move(one) for key, one in named.items()})
            for here, there, guards in moved:
                here.detach().copy_(there)
                assert all(bool((guard == 7).all()) for guard in guards)
                if isinstance(result, Tensor) and there.numel() and result.data_ptr() == there.data_ptr():
                    return here
            return result.cpu() if isinstance(result, Tensor) else result

        return operation


@pytest.fixture(params=["triton"] if INTERPRETED else ["eager", "cpu", pytest.param("triton", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> Backend:
    return cast(Backend, request.param)


@pytest.fixture
def kernels(backend: Backend) -> Kernels:
    if backend != "triton":
        return kernels_of(backend)
    pytest.importorskip("triton")
    return cast(Kernels, Elsewhere(kernels_of(backend)))
