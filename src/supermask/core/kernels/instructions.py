"""Instructions that numba has no word for, so that loops over weights become vector loops.

All of them are translated to a single LLVM instruction or two. numba takes a while to load, so modules that use this
one are imported where they are first used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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


def _instruction(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """What a function of LLVM's builder and of the arguments emits, as a function for compiled loops.

    Args:
        signature: its types, or how they follow from those of the arguments.
    """

    def decorate(emit: Callable[..., Any]) -> Any:
        @functools.wraps(emit)  # numba takes the arguments' names from it
        def typed(context: Any, *given: Any) -> Any:
            chosen = signature(*given) if callable(signature) else signature
            return chosen, lambda context, builder, signature, arguments: emit(builder, *arguments)

        return intrinsic(typed)

    return decorate


@_instruction(lambda condition, chosen, otherwise: chosen(types.boolean, chosen, chosen))
def choose(builder: Any, condition: Any, chosen: Any, otherwise: Any) -> Any:
    """The second where the condition holds, else the third; both are there already, so nothing branches."""
    return builder.select(condition, chosen, otherwise)


@_instruction(types.uint32(types.float32))
def bits_of(builder: Any, value: Any) -> Any:
    """The bits of a float32 as uint32."""
    return builder.bitcast(value, ir.IntType(32))


@_instruction(types.float32(types.uint32))
def float_of(builder: Any, bits: Any) -> Any:
    """The float32 of these bits."""
    return builder.bitcast(bits, ir.FloatType())


@_instruction(types.voidptr(types.int64))
def pointer_at(builder: Any, address: Any) -> Any:
    """A pointer to that address."""
    return builder.inttoptr(address, ir.IntType(8).as_pointer())


@_instruction(types.int64(types.int64, types.int64))
def fetch_add(builder: Any, address: Any, amount: Any) -> Any:
    """Add to the int64 at an address, in one step that no other thread divides; returns what was there before."""
    pointer = builder.inttoptr(address, ir.IntType(64).as_pointer())
    return builder.atomic_rmw("add", pointer, amount, "monotonic")


@_instruction(types.float32(types.float32, types.float32, types.float32))
def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c in float32, rounded once where the processor can do so at no cost, else twice."""
    kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
    return builder.call(builder.module.declare_intrinsic("llvm.fmuladd", [ir.FloatType()], kind), [a, b, c])


@_instruction(types.int64())
def room(builder: Any) -> Any:
    """The address of room for a block of 4-byte numbers, on the stack of the calling function and in cache."""
    pointer = alloca_once(builder, ir.ArrayType(ir.FloatType(), BLOCK))  # type: ignore[no-untyped-call]
    pointer.align = 64
    return builder.ptrtoint(pointer, ir.IntType(64))


def _prefetching(writes: int) -> Any:
    @_instruction(types.none(types.int64))
    def prefetch(builder: Any, address: Any) -> Any:
        nothing = ir.IntType(8).as_pointer()
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [nothing, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [nothing], kind)
        builder.call(function, [builder.inttoptr(address, nothing), number(writes), number(3), number(1)])
        return nothing(None)

    return prefetch


_prefetch, _prefetch_to_write = _prefetching(0), _prefetching(1)


@compiled
def ask_ahead(address: Any, width: Any, begin: Any, end: Any, writes: Any) -> None:
    """Ask memory for the block that is some blocks after the one that begins there, and for nothing beyond the end."""
    first = begin + AHEAD
    for offset in range(width * first, width * min(first + BLOCK, end), _LINE):
        if writes:
            _prefetch_to_write(address + offset)
        else:
            _prefetch(address + offset)
