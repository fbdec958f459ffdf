"""Doing one job in several threads: as many as torch uses, and where possible the very ones.

Which threads, measured on two cores with a draw of 147,456, 589,824 and 2,359,296 weights right after a matrix product
(µs; one thread takes 55, 224, 923):

- torch's own OpenMP threads: 32, 138, 617. They are awake after each of torch's operations, spinning for more work;
- threads of Python's that wait for a job: 73, 242, 661. Waking one takes 30 µs, and it has to take turns with one of
  torch's that spins on its core;
- numba's `parallel=True` with the layer "workqueue": 126, 305, 1021, and the process is aborted when two threads enter
  it at once. Its layer "omp" would start a second OpenMP beside torch's.

So jobs go to the OpenMP library that torch itself has loaded, by the entry point that GNU's and LLVM's have in common.
Threads of Python's do the work where there is no such library (Windows), and in a forked child, where OpenMP's
threads are gone but its memory says that they are there.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

import torch

if TYPE_CHECKING:
    from supermask.core.kernels.compiled import CompiledTask

__all__ = ["CHUNK", "Job", "do_job", "threads_for"]

_WEIGHTS_A_THREAD: Final = 1 << 15  # about 10 µs of work: less is not worth another thread's while
_LARGEST_CHUNK: Final = 1 << 20
CHUNK: Final = 1 << 12
"""Weights that are taken at a time are a multiple of this, so that blocks of any kernel divide them."""


@final
class Job(ctypes.Structure):
    """What a task is to do: the first integer is where the next chunk starts, the second how many weights there are,
    the third how many a chunk has; the others are the task's own."""

    _fields_ = (("integers", ctypes.c_int64 * 16), ("numbers", ctypes.c_double * 8))


def threads_for(weights: int) -> int:
    """How many threads take part: those of torch, unless there is too little to do.

    Example:
        >>> threads_for(1000)
        1
    """
    return max(1, min(torch.get_num_threads(), weights // _WEIGHTS_A_THREAD))


def do_job(task: CompiledTask, weights: int, *integers: int, numbers: tuple[float, ...] = ()) -> None:
    """Do a task for all weights. Every thread takes the next chunk of weights until none is left, this thread too.

    Args:
        task: the machine code.
        weights: how many.
        integers: what the task expects in its job after the first three.
        numbers: likewise.
    """
    if weights == 0:
        return
    threads = threads_for(weights)
    # Two chunks for each thread, so that one that is held up leaves the rest to the others; long ones, because memory
    # is read faster in long runs.
    chunk = min(_LARGEST_CHUNK, -(-weights // (2 * threads * CHUNK)) * CHUNK) if threads > 1 else weights
    job = Job((0, weights, chunk, *integers), numbers)
    address = ctypes.addressof(job)
    if threads == 1:
        task.call(address)
        return
    parallel = _openmp()
    if parallel is not None:
        parallel(task.address, address, threads, 0)
    else:
        _spread(task.call, address, threads)


@functools.lru_cache(maxsize=1)
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """`GOMP_parallel(function, argument, threads, flags)` of the library that torch works with; None if there is none.

    A symbol is looked up in a library and in all that it depends on, so torch's library finds torch's OpenMP.
    """
    if _forked:
        return None
    try:
        parallel = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    found: Callable[[int, int, int, int], None] = parallel
    return found


def _spread(call: Callable[[int], None], address: int, threads: int) -> None:
    """Call a function in several threads of Python's, this one included."""
    others = [_pool(threads - 1).submit(call, address) for _ in range(threads - 1)]
    try:
        call(address)
    finally:
        _finish(others)


@functools.lru_cache(maxsize=4)
def _pool(threads: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="supermask-kernels")


def _finish(others: list[concurrent.futures.Future[None]]) -> None:
    """Wait, whatever interrupts come from the keyboard: the caller would free what other threads are writing to."""
    begun = [other for other in others if not other.cancel()]  # one that has not would find nothing left to do
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            concurrent.futures.wait(begun)
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _start_anew() -> None:
    """In a forked child there is only the thread that forked; OpenMP would wait for the others for ever."""
    _pool.cache_clear()
    _openmp.cache_clear()
    _forked.append(True)


_forked: list[bool] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
