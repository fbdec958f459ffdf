"""Runs as tasks of a Ray cluster: each in a fresh process, on a machine that has room, and again if that is lost.

Results, work and data folders must be at the same place on every machine, on a disk that they share.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Final, final

from supermask.errors import ConfigurationError, MissingDependencyError
from supermask.study.executors import Executor, Finished
from supermask.study.orders import RunOrder
from supermask.study.worker import FAILED, execute

__all__ = ["RayExecutor"]

_RETRIES: Final = 3
_LOCAL: Final = "local"
_PATIENCE_SECONDS: Final = 10.0


@final
class RayExecutor(Executor):
    """Gives runs to a Ray cluster.

    A task whose process dies is tried again by Ray and goes on from the run's last checkpoint.

    Args:
        address: of the cluster, `auto` for the one of this machine, or `local` to start one here for the while.
        jobs: runs at a time; as many as the cluster has GPUs (without any, CPUs) by default.
        use_cpu: ask for no GPU.
        cpus_a_run: CPUs that a run takes up.

    Raises:
        MissingDependencyError: if Ray is not installed.
        ConfigurationError: if the cluster cannot be reached or is too small.
    """

    def __init__(
        self, address: str = _LOCAL, *, jobs: int | None = None, use_cpu: bool = False, cpus_a_run: int = 1
    ) -> None:
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
        room = gpus or int(resources.get("CPU", 0)) // cpus_a_run
        if room < 1:
            raise ConfigurationError(f"the Ray cluster {address} has no room for a run: {resources}")
        self.slots = min(jobs, room) if jobs is not None else room
        self._task = ray.remote(
            num_cpus=cpus_a_run,
            num_gpus=1 if gpus else 0,
            max_retries=_RETRIES,
            max_calls=1,  # a process a run, as without Ray
        )(_make)
        self._running: dict[Any, RunOrder] = {}

    def start(self, order: RunOrder) -> None:
        """As `Executor.start`; what the worker prints goes to Ray's logs."""
        order.save()
        self._running[self._task.remote(order.model_dump_json())] = order

    def wait(self, seconds: float) -> list[Finished]:
        """As `Executor.wait`."""
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        finished = []
        for reference in done:
            order = self._running.pop(reference)
            try:
                finished.append(Finished(order, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                finished.append(Finished(order, FAILED, f"lost by the Ray cluster: {reason}"))
        return finished

    def stop(self) -> None:
        """As `Executor.stop`."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running = {}

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._ours:
            self._ray.shutdown()


def _connect(ray: Any, address: str, jobs: int | None) -> None:
    settings: dict[str, Any] = {"include_dashboard": False, "num_cpus": jobs} if address == _LOCAL else {}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **settings)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(
            f"the Ray cluster {address!r} cannot be reached: {reason}; start one with `ray start --head`, or say "
            "--ray local"
        ) from None


def _knock(address: str) -> None:
    """Ray itself would try for minutes to reach a machine that does not answer."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_PATIENCE_SECONDS).close()


def _make(order: str) -> int:
    """What a worker of the cluster does."""
    parsed = RunOrder.model_validate_json(order)
    if Path(parsed.directory).is_dir():
        os.chdir(parsed.directory)
    return execute(parsed)
