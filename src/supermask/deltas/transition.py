"""A model's tensors on their way from one delta, or none, to another: all of them, or back to where they were.

Tensors are independent of each other and are changed in a few threads, but for tensors that share memory: these are
one group, in one thread and in order. In each group the old delta comes off, then the new changes are decoded, and only
then is the first of them made. So a change that is coded against the base's weights always finds them, and what is
decoded at any time is a few tensors' changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import final

from torch import Tensor

from supermask.deltas.changes import Change
from supermask.deltas.overwriting import LiftedWeights, OldTensor, Overwritten, Reserve, overwrite_
from supermask.deltas.tensor_bytes import as_bits
from supermask.deltas.workers import Step, run_steps

__all__ = ["Transition", "groups_sharing_memory", "overlaps_itself"]


@final
class Transition:
    """What has happened to a model so far on its way to a delta.

    Args:
        targets: the tensors that the new delta changes, by name in model order; none if the old one only comes off.
        changes: of the new delta, by name; each is asked for once, from any thread.
        leaving: what the old delta overwrote, by name in its order; empty if there is none.
        leaving_targets: the tensors that the old delta changed.
        reserve: see `overwrite_`.
    """

    def __init__(
        self,
        targets: Mapping[str, Tensor],
        changes: Mapping[str, Change],
        *,
        leaving: Mapping[str, Overwritten],
        leaving_targets: Mapping[str, Tensor],
        reserve: Reserve | None = None,
    ) -> None:
        self._targets = targets
        self._changes = changes
        self._leaving = leaving
        self._leaving_targets = leaving_targets
        self._reserve = reserve
        self._overwritten: dict[str, Overwritten] = {}
        self._replaced: dict[str, Tensor] = {}

    @property
    def overwritten(self) -> dict[str, Overwritten]:
        """What the new delta has overwritten, by name in model order."""
        return {name: self._overwritten[name] for name in self._targets if name in self._overwritten}

    def go_(self, *, threads: int | None, weights_at_a_time: int | None) -> None:
        """Take the old delta off and put the new one on, tensor by tensor; see `run_steps` for the arguments."""
        tensors = {**self._targets, **self._leaving_targets}
        order = {name: place for place, name in enumerate(self._leaving)}
        steps = []
        for group in groups_sharing_memory(tensors):
            coming = [name for name in group if name in self._targets]
            going = sorted((name for name in group if name in order), key=lambda name: -order[name])
            weights = sum(tensors[name].numel() for name in coming or going)
            steps.append(Step(partial(self._change_group_, coming, going), weights=weights))
        run_steps(
            steps,
            threads=threads,
            weights_at_a_time=weights_at_a_time,
            devices={tensor.device for tensor in tensors.values()},
        )

    def take_off_(self) -> None:
        """Take the old delta off all tensors; `go_` may follow."""
        self._undo_(reversed(list(self._leaving)))

    def back_(self) -> None:
        """Give every tensor back what it was, wherever the way has led so far; more than once makes no difference."""
        for name in reversed(list(self._overwritten)):
            self._overwritten[name].undo_(self._targets[name])
        for name, record in self._leaving.items():
            if isinstance(record, LiftedWeights):
                record.redo_(self._leaving_targets[name])
            elif name in self._replaced:
                as_bits(self._leaving_targets[name]).copy_(self._replaced[name])

    def _change_group_(self, coming: list[str], going: list[str]) -> None:
        self._undo_(iter(going))
        changes = [self._changes[name] for name in coming]
        for name, change in zip(coming, changes, strict=True):
            keep_record = partial(self._overwritten.__setitem__, name)
            overwrite_(self._targets[name], change, keep_record, reserve=self._reserve)

    def _undo_(self, names: Iterator[str]) -> None:
        for name in names:
            record, tensor = self._leaving[name], self._leaving_targets[name]
            # The values that a delta put in place of others are nowhere else; a mask can always be made again.
            if isinstance(record, OldTensor) and self._targets and name not in self._replaced:
                self._replaced[name] = as_bits(tensor).clone()
            record.undo_(tensor)


def groups_sharing_memory(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Names of tensors whose stretches of memory meet, directly or through others.

    Args:
        tensors: by name.

    Returns:
        Every name once; names in a group, and groups by their first name, in the order given.

    Example:
        >>> import torch
        >>> whole = torch.zeros(4, 4)
        >>> groups_sharing_memory({"rows": whole[:2], "other": torch.zeros(2), "row": whole[1], "last": whole[2:]})
        [['rows', 'row'], ['other'], ['last']]
    """
    order = {name: place for place, name in enumerate(tensors)}
    spans = sorted((str(tensor.device), *_span(tensor), name) for name, tensor in tensors.items() if tensor.numel())
    groups = [[name] for name, tensor in tensors.items() if not tensor.numel()]
    reached = ("", 0)
    for device, start, end, name in spans:
        if device == reached[0] and start < reached[1]:
            groups[-1].append(name)
            reached = (device, max(end, reached[1]))
        else:
            groups.append([name])
            reached = (device, end)
    return sorted((sorted(group, key=order.__getitem__) for group in groups), key=lambda group: order[group[0]])


def overlaps_itself(tensor: Tensor) -> bool:
    """Whether elements of a tensor may share memory with each other, as those of an expanded one do.

    Args:
        tensor: any.

    Returns:
        False if they certainly do not.

    Example:
        >>> import torch
        >>> overlaps_itself(torch.zeros(2, 1).expand(2, 3)), overlaps_itself(torch.zeros(2, 3).t())
        (True, False)
    """
    reached = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reached:
                return True
            reached += stride * (size - 1)
    return False


def _span(tensor: Tensor) -> tuple[int, int]:
    start, itemsize = tensor.data_ptr(), tensor.element_size()
    last = sum(stride * (size - 1) for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return start, start + (last + 1) * itemsize
