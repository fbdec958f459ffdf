"""Doing many independent things to tensors in a few threads: all of them, or the first error and no thread at work."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch

from supermask.errors import ConfigurationError

__all__ = ["Step", "default_threads", "run_steps", "undisturbed"]

_MOST_THREADS = 8
_WEIGHTS_A_THREAD = 1 << 20  # starting a thread takes as long as changing about as many weights


@final
@dataclass(frozen=True)
class Step:
    """One thing to do.

    Args:
        run: does it; any thread may call it.
        weights: what it has in hand meanwhile, which bounds how many steps run at a time.
    """

    run: Callable[[], None]
    weights: int


def default_threads(weights: int) -> int:
    """How many threads are worth it: one a core that this process may use, 8 at most, and one a million weights.

    Args:
        weights: how many there are to work on.

    Returns:
        At least 1.

    Example:
        >>> default_threads(1000), 1 <= default_threads(10**8) <= 8
        (1, True)
    """
    # Not every system knows which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _MOST_THREADS, weights // _WEIGHTS_A_THREAD))


def run_steps(
    steps: Sequence[Step],
    *,
    threads: int | None = None,
    weights_at_a_time: int | None = None,
    devices: Collection[torch.device] = (),
) -> None:
    """Run every step, in several threads if there is work for them. Steps start in order, and this thread takes part.

    Args:
        steps: in any order of finishing; what one does must not depend on another.
        threads: how many, this one included; by default `default_threads` of all the weights.
        weights_at_a_time: steps that run together have no more than this in hand; a larger one runs alone.
        devices: that the steps work on. Whatever this thread has queued there comes first.

    Raises:
        ConfigurationError: if `threads` is less than 1.
        BaseException: what the first step in order that failed raised, or an interrupt. Steps that had not started then
            never do, and those that had are done.

    Example:
        >>> done = []
        >>> run_steps([Step(lambda i=i: done.append(i), weights=1) for i in range(5)], threads=3)
        >>> sorted(done)
        [0, 1, 2, 3, 4]
    """
    if threads is not None and threads < 1:
        raise ConfigurationError(f"threads must be at least 1, received {threads}")
    if threads is None:
        threads = default_threads(sum(step.weights for step in steps))
    queue = _Queue(steps, weights_at_a_time)
    surroundings = _surroundings(devices)

    def work() -> None:
        with surroundings():
            queue.work()

    others = [threading.Thread(target=work, name="supermask") for _ in range(min(threads, len(steps)) - 1)]

    def finish() -> None:
        queue.stop()
        for other in others:
            if other.ident is not None:  # started; one that an interrupt kept from starting finds the queue stopped
                other.join()

    try:
        for other in others:
            other.start()
        queue.work()
    finally:
        undisturbed(finish)
    queue.raise_first()


def undisturbed(action: Callable[[], object]) -> None:
    """Do something to its end, whatever interrupts come from the keyboard meanwhile.

    Args:
        action: that may be run again from the beginning if it was interrupted.

    Raises:
        KeyboardInterrupt: if there was one, once the action is done.
    """
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            action()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


@final
class _Queue:
    """Steps that wait for a thread, those that failed, and how many weights are in hand."""

    def __init__(self, steps: Sequence[Step], weights_at_a_time: int | None) -> None:
        self._steps = steps
        self._most = weights_at_a_time
        self._next = 0
        self._in_hand = 0
        self._stopped = False
        self._errors: dict[int, BaseException] = {}
        self._changed = threading.Condition()

    def work(self) -> None:
        """Take one step after the other until none is left."""
        while (index := self._take()) is not None:
            try:
                self._steps[index].run()
            except BaseException as error:  # raised in the thread that asked, once all threads are done
                self._errors[index] = error
                self.stop()
            finally:
                with self._changed:
                    self._in_hand -= self._steps[index].weights
                    self._changed.notify_all()

    def stop(self) -> None:
        """Start no more steps."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def raise_first(self) -> None:
        """Raise an interrupt if there was one, else what the first failed step in order raised.

        Steps start in order, and those that have started finish, so no timing changes which one that is.
        """
        if self._errors:
            raise self._errors[min(self._errors, key=lambda index: (isinstance(self._errors[index], Exception), index))]

    def _take(self) -> int | None:
        with self._changed:
            while not self._stopped and self._next < len(self._steps):
                weights = self._steps[self._next].weights
                if not self._in_hand or self._most is None or self._in_hand + weights <= self._most:
                    self._in_hand += weights
                    self._next += 1
                    return self._next - 1
                self._changed.wait()
            return None


def _surroundings(devices: Collection[torch.device]) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """What torch keeps for each thread, as it is in this one: gradients, inference mode, streams of devices."""
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    streams = [torch.cuda.current_stream(device) for device in set(devices) if device.type == "cuda"]

    @contextlib.contextmanager
    def entered() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(inference))
            stack.enter_context(torch.set_grad_enabled(gradients))
            for stream in streams:
                stack.enter_context(torch.cuda.stream(stream))
            yield

    return entered
