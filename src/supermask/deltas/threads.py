"""Doing one thing to many tensors in a few threads: to all of them, or the first error and no thread at work."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor

from supermask.errors import ConfigurationError

__all__ = ["WEIGHTS_AT_A_TIME", "default_threads", "run_in_threads", "undisturbed"]

WEIGHTS_AT_A_TIME = 5 << 20
"""Tensors that are decoded at the same time have this many weights together, or are one."""

_MOST_THREADS = 8
_WEIGHTS_A_THREAD = 1 << 20  # starting a thread takes as long as changing about as many weights


def default_threads(weights: int) -> int:
    """How many threads are worth it: one a core that this process may use, 8 at most, and one a million weights."""
    # Not every system knows which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _MOST_THREADS, weights // _WEIGHTS_A_THREAD))


def run_in_threads(
    work: Callable[[str], object],
    tensors: Mapping[str, Tensor],
    *,
    threads: int | None = None,
    at_a_time: int | None = None,
) -> None:
    """Do something with each tensor, in order of starting, in several threads if that is worth it; this one takes part.

    Args:
        work: what to do, by the tensor's name; any thread may call it, and none may wait for another.
        tensors: by name. Whatever this thread has queued on their devices comes first.
        threads: how many, this one included; by default `default_threads` of all the weights.
        at_a_time: tensors in hand together have no more weights than this; a larger one is in hand alone.

    Raises:
        ConfigurationError: if `threads` is less than 1.
        BaseException: an interrupt, or what the first tensor in order that failed raised; no other starts after it.
    """
    if threads is not None and threads < 1:
        raise ConfigurationError(f"threads must be at least 1, received {threads}")
    weights = {name: tensor.numel() for name, tensor in tensors.items()}
    most, in_hand = at_a_time or math.inf, 0
    waiting, errors, changed = deque(weights), dict[str, BaseException](), threading.Condition()
    # What torch keeps for each thread is to be in all of them as it is in this one.
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    streams = [torch.cuda.current_stream(device) for device in {t.device for t in tensors.values() if t.is_cuda}]

    def fits() -> bool:
        return not (waiting and in_hand) or in_hand + weights[waiting[0]] <= most

    def take_turns() -> None:
        nonlocal in_hand
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients), ExitStack() as stack:
            for stream in streams:
                stack.enter_context(torch.cuda.stream(stream))
            while True:
                with changed:
                    changed.wait_for(fits)
                    if not waiting:
                        return
                    name = waiting.popleft()
                    in_hand += weights[name]
                try:
                    work(name)
                except BaseException as error:  # raised in the thread that asked, once all threads are done
                    errors[name] = error
                with changed:
                    in_hand -= weights[name]
                    if errors:
                        waiting.clear()
                    changed.notify_all()

    def finish() -> None:
        with changed:
            waiting.clear()
            changed.notify_all()
        for thread in others:
            if thread.ident is not None:  # started; one that an interrupt kept from starting finds nothing waiting
                thread.join()

    count = min(threads or default_threads(sum(weights.values())), len(weights))
    others = [threading.Thread(target=take_turns, name="supermask") for _ in range(count - 1)]
    try:
        for thread in others:
            thread.start()
        take_turns()
    finally:
        undisturbed(finish)
    failed = [errors[name] for name in weights if name in errors]
    if failed:
        raise min(failed, key=lambda error: isinstance(error, Exception))


def undisturbed(action: Callable[[], object]) -> None:
    """Do something to its end, anew after each interrupt from the keyboard, and only then raise the last of those."""
    try:
        action()
    except KeyboardInterrupt:
        undisturbed(action)
        raise
