"""Compile the Triton kernels for a GPU that need not be there, and print what came out as JSON.

    python tests/core/kernels/triton_compiling.py 90

The interpreter takes more than the compiler does, so a kernel that works in it may still not compile.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import torch


class AbsentGPU:
    """What Triton asks a driver before it compiles."""

    def __init__(self, capability: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def kernels() -> dict[str, tuple[Any, dict[str, Any], list[tuple[Any, ...]]]]:
    """Each kernel with its options and the arguments of calls that one compilation is to serve."""
    from supermask.core.kernels import triton_adam8, triton_kernels
    from supermask.core.kernels.triton_launch import BLOCK, LAUNCH

    f4, f2, u1, i8 = torch.float32, torch.bfloat16, torch.uint8, torch.int64
    numbers = (0.1, 0.999, 0.001, 1.5, 1e-8, 0.2)
    other = (0.5, 0.5, 0.5, 2.5, 1.0, 16.0)
    return {
        "draw_masked_weight": (
            triton_kernels._draw_weight,
            LAUNCH,
            [(f2, f2, f4, 1024, f4, f4, *words, False, BLOCK) for words in [(0, 0), (1, 16), (-5, 2**31 - 1)]],
        ),
        "draw_masked_weight, key in memory": (
            triton_kernels._draw_weight,
            LAUNCH,
            [(f2, f4, f4, 1 << 33, f4, i8, 0, 0, True, BLOCK)],
        ),
        "draw_keep_mask": (triton_kernels._draw_mask, LAUNCH, [(torch.bool, f4, 1024, f4, i8, 0, 0, True, BLOCK)]),
        "threshold_masked_weight": (triton_kernels._threshold_weight, LAUNCH, [(f2, f2, f4, 1024, BLOCK)]),
        "mask_logit_gradient": (triton_kernels._gradient, LAUNCH, [(f4, f2, f2, f4, 1024, True, BLOCK)]),
        "adam_step_8bit_": (
            triton_adam8._step,
            triton_adam8._LAUNCH,
            [
                (f4, f4, u1, f4, u1, f4, 1024, 0.9, *given, f4, 1.0, True, f4, *words, False, 4, 256)
                for given, words in ((numbers, (0, 0)), (other, (1, 16)))
            ],
        ),
    }


def main() -> None:
    from triton.runtime import driver

    driver.set_active(AbsentGPU(int(sys.argv[1])))
    found = {}
    for name, (kernel, options, calls) in kernels().items():
        compiled = [kernel.warmup(*call, grid=(1,), **options) for call in calls]
        ptx = compiled[0].asm["ptx"]
        found[name] = {
            "compilations": len({id(one) for one in compiled}),
            "bytes": len(compiled[0].asm["cubin"]),
            "wide loads": len(re.findall(r"ld\.global\.v\d\.b32", ptx)),
            "wide stores": len(re.findall(r"st\.global\.v\d\.b32", ptx)),
            "exponentials": ptx.count("ex2.approx"),
            "fused": ptx.count("fma.rn"),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
