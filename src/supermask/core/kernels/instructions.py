"""Instructions that numba has no word for, so that loops over weights become vector loops.

All of them are translated to a single LLVM instruction or two. numba takes a while to load, so modules that use this
one are imported where they are first used.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic

from supermask.core.kernels.compiled import compiled

__all__ = [
    "AHEAD",
    "BLOCK",
    "ask_ahead",
    "bits_of",
    "choose",
    "fetch_add",
    "float_of",
    "multiply_add",
    "pointer_at",
    "room",
]

BLOCK: Final = 128
"""Weights that loops work on at a time: what is known of them stays in the fastest cache."""

# Loops with as much arithmetic as these leave a processor few instructions to look ahead, so memory is asked in time.
# Four blocks ahead a draw from memory takes 0.34 ns a weight on one measured machine, without asking 1.1 ns.
AHEAD: Final = 4 * BLOCK
_LINE: Final = 64  # bytes that come from memory together


def _choose(context: Any, condition: Any, chosen: Any, otherwise: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return chosen(types.boolean, chosen, chosen), generate


def _bits_of(context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


def _float_of(context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


def _pointer_at(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


def _fetch_add(context: Any, address: Any, amount: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


def _multiply_add(context: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        function = builder.module.declare_intrinsic("llvm.fmuladd", [ir.FloatType()], kind)
        return builder.call(function, arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


def _room(context: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = alloca_once(  # type: ignore[no-untyped-call]
            builder, ir.ArrayType(ir.FloatType(), BLOCK)
        )
        pointer.align = 64
        return builder.ptrtoint(pointer, ir.IntType(64))

    return types.int64(), generate


@compiled
def ask_ahead(address: Any, width: Any, begin: Any, end: Any, writes: Any) -> None:
    """Ask memory for the block that is some blocks after the one that begins there, and for nothing beyond the end."""
    first = begin + AHEAD
    for offset in range(width * first, width * min(first + BLOCK, end), _LINE):
        if writes:
            _prefetch_to_write(address + offset)
        else:
            _prefetch(address + offset)


def _prefetching(writes: int) -> Any:
    def prefetch(context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
            number = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
            function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
            builder.call(function, [pointer, number(writes), number(3), number(1)])
            return context.get_dummy_value()

        return types.none(types.int64), generate

    return prefetch


choose: Any = intrinsic(_choose)
"""(condition, a, b): a where the condition holds, else b; both are there already, so nothing branches."""

bits_of: Any = intrinsic(_bits_of)
"""(float32): its bits as uint32."""

float_of: Any = intrinsic(_float_of)
"""(uint32): the float32 of these bits."""

multiply_add: Any = intrinsic(_multiply_add)
"""(a, b, c): a b + c in float32, rounded once where the processor can do so at no cost, else twice."""

pointer_at: Any = intrinsic(_pointer_at)
"""(int64): a pointer to that address."""

fetch_add: Any = intrinsic(_fetch_add)
"""(address, amount): add to the int64 at an address, in one step that no other thread divides; returns what was there
before."""

_prefetch: Any = intrinsic(_prefetching(0))
_prefetch_to_write: Any = intrinsic(_prefetching(1))


room: Any = intrinsic(_room)
"""(): the address of room for a block of 4-byte numbers, on the stack of the calling function and in cache."""
