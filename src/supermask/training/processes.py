"""Several processes that train one model together: who they are, and how the first one acts for all.

Every process goes through the same program. What must happen once (looking at the output folder, scoring, writing) the
first process does, and the others wait and are told the result, or the error, so that none goes on alone.
"""

from __future__ import annotations

import datetime
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast, final

import torch

from supermask.errors import ConfigurationError, SupermaskError
from supermask.prediction.given import take_device

__all__ = ["Processes", "current_processes", "leave_processes"]

Result = TypeVar("Result")

# How long the others wait for the first: it may score a large dev set ten times over.
_PATIENCE = datetime.timedelta(days=2)

_LAUNCHED_FOR = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


@final
@dataclass(frozen=True)
class Processes:
    """The processes of one training.

    Args:
        rank: which of them this is, from 0.
        count: how many there are.

    Example:
        >>> Processes().on_first(lambda: "done")
        'done'
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def on_first(self, act: Callable[[], Result]) -> Result:
        """Let the first process act, and give its result to all.

        Args:
            act: called in the first process only; its result is pickled for the others.

        Raises:
            SupermaskError: in all processes, if it was raised in the first. Any other error is raised there as it is,
                and in the others as a SupermaskError that names it.
        """
        if self.count == 1:
            return act()
        outcome: list[Any] = [None]
        failure: BaseException | None = None
        if self.first:
            try:
                outcome = [("done", act())]
            except BaseException as error:
                failure = error
                outcome = [("failed", (type(error).__name__, str(error)))]
        torch.distributed.broadcast_object_list(outcome, src=0, group=_waiting_group(_world()))
        if failure is not None:
            raise failure
        status, result = outcome[0]
        if status == "failed":
            raise _as_raised_in_first(*result)
        return cast("Result", result)

    def must_agree(self, value: str, *, what: str) -> None:
        """Make sure that all processes have come to the same.

        Args:
            value: what this process has, short.
            what: what it is, for the error.

        Raises:
            SupermaskError: in all processes, if one differs.
        """
        if self.count == 1:
            return
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value, group=_waiting_group(_world()))
        if len(set(values)) > 1:
            differing = [rank for rank, other in enumerate(values) if other != values[0]]
            raise SupermaskError(
                f"{what} of processes {', '.join(map(str, differing))} differ from the first one's; run all on the "
                "same hardware with the same versions, and change no parameter outside the optimizer"
            )


def current_processes(*, use_cpu: bool = False) -> Processes:
    """The processes that `accelerate launch` or `torchrun` has started this one among; one if neither has.

    Joins them, if that has not happened yet.

    Args:
        use_cpu: compute on the CPU even where there is an accelerator.

    Raises:
        ConfigurationError: if the launch was for FSDP or DeepSpeed.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    joined = torch.distributed.is_available() and torch.distributed.is_initialized()
    if launched == 1 and not joined:
        return Processes()
    for variable, name in _LAUNCHED_FOR.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes"):
            raise ConfigurationError(
                f"the processes were launched for {name}, and `train` gives every process a whole model (DDP); launch "
                "with --multi_gpu, or write the loop yourself as in docs/distributed.md"
            )
    from accelerate import PartialState

    state = PartialState(cpu=take_device(use_cpu=use_cpu).type == "cpu")
    if state.num_processes == 1 and launched > 1:
        raise ConfigurationError(
            f"WORLD_SIZE says {launched} processes, but they cannot be joined; start them with `accelerate launch` or "
            "`torchrun`, which set RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT too"
        )
    return Processes(rank=state.process_index, count=state.num_processes)


def leave_processes() -> None:
    """Say good-bye to the other processes, if there are any, at the end of the program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _world() -> Any:
    return torch.distributed.group.WORLD


@functools.lru_cache(maxsize=1)
def _waiting_group(world: Any) -> Any:
    """The same processes in a group of their own: on the CPU, and without the time limit of gradients' sums."""
    return torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)


def _as_raised_in_first(kind: str, message: str) -> SupermaskError:
    kinds: list[type[SupermaskError]] = [SupermaskError, *SupermaskError.__subclasses__()]
    for known in kinds:
        if known.__name__ == kind:
            return known(message)
    return SupermaskError(f"the first process stopped with {kind}: {message}")
