"""A plan carried out: each run in a process of its own, on this machine or on a Ray cluster, then measured."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, cast, final

from supermask.errors import ConfigurationError, DataError, MissingDependencyError
from supermask.study.measuring import Measured, measure_store
from supermask.study.orders import RunOrder, is_claimed
from supermask.study.plan import Plan
from supermask.study.records import RecordStore
from supermask.study.worker import BUSY, DONE, FAILED, LEASH, execute, note_failure
from supermask.training import RunRecord

if TYPE_CHECKING:
    from supermask.study.progress import StudyProgress

__all__ = ["Executor", "ProcessExecutor", "RayExecutor", "StudyReport", "make_executor", "run_plan"]

_TICK_SECONDS: Final = 0.5
_MERCY_SECONDS: Final = 5.0


@final
@dataclass(frozen=True)
class StudyReport:
    """What came of a plan: the runs that were made, here or by another runner, and those that failed, with why."""

    completed: tuple[RunOrder, ...]
    failed: tuple[tuple[RunOrder, str], ...]
    measured: Measured


class Executor(ABC):
    """Makes runs, as many at a time as it has slots."""

    slots: int

    @abstractmethod
    def submit(self, order: RunOrder) -> Future[int]:
        """Begin a run; the future has what `supermask.study.worker.execute` gives, or how the worker died."""

    @abstractmethod
    def stop(self) -> None:
        """End all that runs, now, and take no more; what was begun can be gone on with."""


@final
class ProcessExecutor(Executor):
    """Makes each run in a process of its own on this machine, so that a crash costs one run.

    Args:
        devices: one slot each: what CUDA_VISIBLE_DEVICES is set to; None leaves it as it is (so for the CPU).
        launch: what starts a worker instead of Python, such as `accelerate launch --num_processes 4`.
    """

    def __init__(self, devices: Sequence[str | None] = (None,), *, launch: Sequence[str] = ()) -> None:
        self.slots = len(devices)
        self._launch = tuple(launch) or (sys.executable,)
        self._free: SimpleQueue[str | None] = SimpleQueue()
        for device in devices:
            self._free.put(device)
        self._pool = ThreadPoolExecutor(self.slots)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._starting = threading.Lock()
        self._stopped = False

    def submit(self, order: RunOrder) -> Future[int]:
        """As `Executor.submit`; what the worker prints goes to the order's log."""
        return self._pool.submit(self._make, order)

    def stop(self) -> None:
        """As `Executor.stop`."""
        with self._starting:
            self._stopped = True
        running = list(self._running)
        for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
            for process in running:
                _signal_group(process, number)
            deadline = time.monotonic() + _MERCY_SECONDS
            for process in running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        self._pool.shutdown(cancel_futures=True)

    def _make(self, order: RunOrder) -> int:
        device, before = self._free.get(), _written(order.record_path)
        try:
            process = self._start(order, device)
            code = process.wait()
            self._running.discard(process)
            if process.stdin is not None:
                process.stdin.close()
        finally:
            self._free.put(device)
        # What started the worker may have an exit code of its own.
        if code in (DONE, BUSY) or _written(order.record_path) != before:
            return code
        if code < 0:
            name = signal.Signals(-code).name
            hint = "; was there too little memory?" if name == "SIGKILL" else ""
            raise ChildProcessError(f"the worker was ended by {name}{hint}")
        said = order.log_path.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line[:300] for line in reversed(said) if line.strip()), "it printed nothing")
        raise ChildProcessError(f"the worker ended with exit code {code}: {last} (see {order.log_path})")

    def _start(self, order: RunOrder, device: str | None) -> subprocess.Popen[bytes]:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        environment = {**os.environ, LEASH: "1"}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, cores // self.slots)))
        environment.setdefault("TOKENIZERS_PARALLELISM", "false")
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        path = order.save()
        with self._starting, order.log_path.open("ab") as log:
            if self._stopped:
                raise ChildProcessError("the runner has stopped")
            process = subprocess.Popen(
                [*self._launch, "-m", "supermask.study.worker", str(path)],
                stdin=subprocess.PIPE,  # ends when this process does, and the worker with it
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=order.directory,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then decides
            )
            self._running.add(process)
        return process


@final
class RayExecutor(Executor):
    """Gives runs to a Ray cluster, each to a fresh process; one whose process is lost goes on from its checkpoint.

    Results, work and data folders must be at the same place on every machine, on a disk that they share.

    Args:
        address: of the cluster, `auto` for the one of this machine, or `local` to start one here for the while.
        jobs: runs at a time; as many as the cluster has GPUs by default (without any, or with `use_cpu`, CPUs).

    Raises:
        MissingDependencyError: if Ray is not installed.
        ConfigurationError: if the cluster cannot be reached or is too small.
    """

    def __init__(self, address: str = "local", *, jobs: int | None = None, use_cpu: bool = False) -> None:
        # Ray reports on its use to its makers unless told not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise MissingDependencyError("a cluster needs Ray; run: pip install 'supermask[ray]'") from None
        self._ray = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(ray, address, jobs)
        resources = ray.cluster_resources()
        gpus = 0 if use_cpu else int(resources.get("GPU", 0))
        room = gpus or int(resources.get("CPU", 0))
        if room < 1:
            raise ConfigurationError(f"the Ray cluster {address} has no room for a run: {resources}")
        self.slots = room if jobs is None else min(jobs, room)
        # One process a run, as without Ray; Ray itself tries again what is lost.
        self._task = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=3, max_calls=1)(_make_on_ray)
        self._given: list[Any] = []

    def submit(self, order: RunOrder) -> Future[int]:
        """As `Executor.submit`; what the worker prints goes to Ray's logs."""
        order.save()
        self._given.append(self._task.remote(order.model_dump_json()))
        return cast("Future[int]", self._given[-1].future())

    def stop(self) -> None:
        """As `Executor.stop`; a cluster that was started here ends."""
        for reference in self._given:
            self._ray.cancel(reference, force=True)
        if self._ours:
            self._ray.shutdown()


def make_executor(plan: Plan) -> Executor:
    """Where runs are made, as the settings say: in processes of this machine, or on a Ray cluster."""
    settings = plan.settings
    if settings.ray is not None:
        return RayExecutor(settings.ray, jobs=settings.jobs, use_cpu=settings.use_cpu)
    return ProcessExecutor(plan.slots, launch=shlex.split(settings.launch))


def run_plan(plan: Plan, progress: StudyProgress, executor: Executor | None = None) -> StudyReport:
    """Make what is not recorded, then measure what has a delta and no measures, and the pairs of masks.

    A run that another runner is at work on is left to it, and its record waited for; if that runner dies, the run is
    made here. A run that fails does not stop the others.

    Args:
        plan: the runs.
        progress: hears of everything.
        executor: where runs are made, by default as the settings say. It is stopped at the end.

    Raises:
        KeyboardInterrupt: after all workers have ended; the same call goes on where they stopped.
    """
    settings = plan.settings
    if plan.orders:
        for folder in (settings.work_folder, plan.orders[0].lock_path.parent):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    executor = executor or make_executor(plan)
    completed, failed = _carry_out(plan, executor, progress)
    store = RecordStore(settings.results)
    # Recorded, and the delta lies where it was made, because nobody was there to measure it or to clear up.
    lying = [order for order in plan.runs if order.folder.delta.is_dir()]
    left = [order for order in lying if order.recorded() and not is_claimed(order.lock_path)]
    masks = [store.at(order.target) for order in plan.runs if order.compared]
    measured = measure_store(
        store,
        deltas=[order.folder.delta for order in left],
        keep_deltas="none",
        compare=[stored for stored in masks if stored is not None and stored.record.status == "completed"],
    )
    for order in left:
        order.clear()
    for fault in measured.faults:
        progress.note(f"not measured: {fault}")
    return StudyReport(tuple(completed), tuple(failed), measured)


def _carry_out(
    plan: Plan, executor: Executor, progress: StudyProgress
) -> tuple[list[RunOrder], list[tuple[RunOrder, str]]]:
    completed: list[RunOrder] = []
    failed: list[tuple[RunOrder, str]] = []

    def settle(order: RunOrder, *, here: bool) -> None:
        if record := order.recorded():
            order.clear()
            completed.append(order)
            progress.completed(order, record, here=here)
        else:
            error = "the worker left no record"
            with contextlib.suppress(DataError):
                error = RunRecord.load(order.record_path).error or error
            failed.append((order, error))
            progress.failed(order, error)

    waiting, running = plan.orders, dict[Future[int], RunOrder]()
    progress.begin(waiting, recorded=len(plan.runs) - len(waiting), slots=executor.slots)
    try:
        while waiting or running:
            for order in list(waiting):
                if len(running) == executor.slots:
                    break
                if is_claimed(order.lock_path):
                    continue  # another runner is at it
                waiting.remove(order)
                if order.recorded():
                    settle(order, here=False)
                else:
                    progress.started(order)
                    running[executor.submit(order)] = order
            if waiting and not running:
                time.sleep(_TICK_SECONDS)
            for future in wait(running, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED).done:
                order = running.pop(future)
                code = FAILED
                try:
                    code = future.result()
                except Exception as error:  # the worker died and could not say why
                    if order.recorded() is None:
                        note_failure(order, str(error).strip().partition("\n")[0] or type(error).__name__)
                if code == BUSY:
                    waiting.append(order)
                else:
                    settle(order, here=True)
            progress.tick()
    finally:
        progress.end()
        executor.stop()
    return completed, failed


def _make_on_ray(order: str) -> int:
    parsed = RunOrder.model_validate_json(order)
    if Path(parsed.directory).is_dir():
        os.chdir(parsed.directory)
    return execute(parsed)


def _connect(ray: Any, address: str, jobs: int | None) -> None:
    settings: dict[str, Any] = {"include_dashboard": False, "num_cpus": jobs} if address == "local" else {}
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would try for minutes to reach a machine that does not answer
            socket.create_connection((host, int(port)), timeout=10.0).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **settings)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(
            f"the Ray cluster {address!r} cannot be reached: {reason}; start one with `ray start --head`, or say "
            "--ray local"
        ) from None


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
