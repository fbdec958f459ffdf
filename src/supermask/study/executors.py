"""Where runs are made: in this process, or in processes of their own on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from supermask.study.orders import RunOrder
from supermask.study.worker import BUSY, DONE, FAILED, LEASH, execute

__all__ = ["Executor", "Finished", "InlineExecutor", "ProcessExecutor", "usable_cores"]

_PAUSE_SECONDS: Final = 0.2
_MERCY_SECONDS: Final = 5.0


@final
@dataclass(frozen=True)
class Finished:
    """A run that a worker is done with.

    Args:
        order: the run.
        outcome: `DONE`, `FAILED` or `BUSY`, as of `supermask.study.worker.execute`.
        death: how the worker ended, if it did not say how the run did.
    """

    order: RunOrder
    outcome: int
    death: str | None = None


@final
@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    order: RunOrder
    device: str | None
    before: tuple[int, int] | None


class Executor(ABC):
    """Makes runs, some at a time."""

    slots: int

    @abstractmethod
    def start(self, order: RunOrder) -> None:
        """Begin a run; there must be a free slot."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Finished]:
        """The runs that are done, after so many seconds or as soon as there is one."""

    @abstractmethod
    def stop(self) -> None:
        """End all that runs, now; what was begun can be gone on with."""

    def close(self) -> None:
        """No more runs will come."""


@final
class InlineExecutor(Executor):
    """Makes one run after the other in this process: for tiny runs, where starting a process takes longer."""

    slots = 1

    def __init__(self) -> None:
        self._done: list[Finished] = []

    def start(self, order: RunOrder) -> None:
        """As `Executor.start`; the run is done when this returns."""
        Path(order.work).mkdir(parents=True, exist_ok=True)
        self._done.append(Finished(order, execute(order)))

    def wait(self, seconds: float) -> list[Finished]:
        """As `Executor.wait`."""
        done, self._done = self._done, []
        return done

    def stop(self) -> None:
        """Nothing runs between two calls."""


@final
class ProcessExecutor(Executor):
    """Makes each run in a process of its own on this machine, so that a crash costs one run.

    Args:
        devices: one slot each: what CUDA_VISIBLE_DEVICES is set to; None leaves it as it is (so for the CPU).
        threads: threads that a worker computes with on the CPU; by default the cores divided among the slots, unless
            OMP_NUM_THREADS is set.
        launch: what starts a worker instead of Python, such as `accelerate launch --num_processes 4`.
    """

    def __init__(
        self, devices: Sequence[str | None] = (None,), *, threads: int | None = None, launch: Sequence[str] = ()
    ) -> None:
        self.slots = len(devices)
        self.launch = tuple(launch)
        self._free = list(reversed(devices))
        self._threads = threads or max(1, usable_cores() // len(devices))
        self._given_threads = threads is not None
        self._running: list[_Worker] = []

    def start(self, order: RunOrder) -> None:
        """As `Executor.start`; what the worker prints goes to the order's log."""
        device = self._free.pop()
        path, before = order.save(), _stamp(order.record_path)
        environment = {**os.environ, LEASH: "1"}
        if self._given_threads or "OMP_NUM_THREADS" not in environment:
            environment["OMP_NUM_THREADS"] = str(self._threads)
        environment.setdefault("TOKENIZERS_PARALLELISM", "false")
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        with order.log_path.open("ab") as log:
            process = subprocess.Popen(
                [*(self.launch or (sys.executable,)), "-m", "supermask.study.worker", str(path)],
                stdin=subprocess.PIPE,  # ends when this process does, and the worker with it
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=order.directory,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then decides
            )
        self._running.append(_Worker(process, order, device, before))

    def wait(self, seconds: float) -> list[Finished]:
        """As `Executor.wait`."""
        deadline = time.monotonic() + seconds
        while not any(worker.process.poll() is not None for worker in self._running):
            if time.monotonic() >= deadline:
                return []
            time.sleep(_PAUSE_SECONDS)
        ended = [worker for worker in self._running if worker.process.poll() is not None]
        self._running = [worker for worker in self._running if worker not in ended]
        for worker in ended:
            self._let_go(worker)
        return [Finished(worker.order, *_outcome(worker)) for worker in ended]

    def stop(self) -> None:
        """As `Executor.stop`."""
        for worker in self._running:
            _signal_group(worker.process, signal.SIGTERM)
        deadline = time.monotonic() + _MERCY_SECONDS
        for worker in self._running:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(worker.process, getattr(signal, "SIGKILL", signal.SIGTERM))
                worker.process.wait()
            self._let_go(worker)
        self._running = []

    def _let_go(self, worker: _Worker) -> None:
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        self._free.append(worker.device)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _outcome(worker: _Worker) -> tuple[int, str | None]:
    code, order = worker.process.returncode, worker.order
    if code in (DONE, BUSY):
        return code, None
    if _stamp(order.record_path) != worker.before:  # what started the worker may have an exit code of its own
        return FAILED, None
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; was there too little memory?" if name == "SIGKILL" else ""
        return FAILED, f"the worker was ended by {name}{hint}"
    return FAILED, f"the worker ended with exit code {code}: {_last_line(order.log_path)}"


def _stamp(path: Path) -> tuple[int, int] | None:
    """What a file that is replaced differs in."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _last_line(path: Path) -> str:
    try:
        lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    return f"{lines[-1][:300]} (see {path})" if lines else f"it printed nothing ({path})"


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        pass
