"""From task deltas to PEFT adapters and back, without loss."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from supermask.deltas import Change, ChangePlace, DenseValues, KeepMask, TaskDelta
from supermask.deltas.applying import find_targets
from supermask.deltas.fingerprint import require_base
from supermask.deltas.tensor_bytes import as_bits
from supermask.errors import BaseMismatchError, ConfigurationError
from supermask.interop.peft.config import SupermaskConfig
from supermask.interop.peft.layer import some
from supermask.interop.peft.targets import base_tensors, head_modules
from supermask.interop.peft.training import supermask_tuner
from supermask.methods import Supermask
from supermask.models import ParameterMap, map_parameters

__all__ = ["adapter_to_delta", "delta_to_adapter", "delta_to_peft", "peft_to_delta"]


def delta_to_peft(
    delta: TaskDelta,
    model: nn.Module,
    *,
    adapter_name: str = "default",
    task_type: str | None = None,
    verify: bool = True,
) -> Any:
    """Put a delta on its base as a PEFT adapter.

    Args:
        delta: keep masks, and a head.
        model: the base, with a head of the task's shape, changed in place as PEFT does; or a PEFT model with supermask
            adapters, which gets another.
        adapter_name: what PEFT calls it.
        task_type: PEFT's word for the task, such as `"SEQ_CLS"`, which decides the class of the PEFT model.
        verify: check the base's fingerprint.

    Returns:
        A PEFT model whose adapter has the delta's masks and head, bit for bit. It is in evaluation mode, and the
        adapter does not train.

    Raises:
        ConfigurationError: if the delta changes values outside the head, which a supermask adapter cannot say.
        BaseMismatchError: if the model is not the delta's base, or its head has another shape.
    """
    peft_model: Any = model
    tuner = supermask_tuner(model) if isinstance(model, PeftModel) else None
    base = model if tuner is None else tuner.model
    parameters = map_parameters(model) if tuner is None else tuner.parameter_map
    tensors = base_tensors(base)
    _require_expressible(delta, parameters)
    find_targets(tensors, delta.document)
    masked = {record.name for record in delta.document.changes if record.kind == "keep_mask"}
    config = SupermaskConfig(
        task_type=task_type,
        target_modules=_owners(parameters, masked),
        modules_to_save=head_modules(parameters) if delta.head else [],
        inference_mode=True,
        verify_base=verify,
        base_digest=delta.base.digest if verify else None,
        record=_record(delta),
    )
    try:
        if tuner is None:
            peft_model = get_peft_model(model, config, adapter_name=adapter_name)
        else:
            peft_model.add_adapter(adapter_name, config)
    except BaseMismatchError:
        # Say which tensors differ; only a delta knows.
        require_base(tensors, delta.base, head=delta.head)
        raise
    _fill(peft_model, adapter_name, delta, base)
    return peft_model.eval()


def peft_to_delta(
    model: nn.Module,
    *,
    adapter_name: str = "default",
    base_name: str | None = None,
    base_revision: str | None = None,
    task: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> TaskDelta:
    """The task delta of an adapter: its thresholded masks, the head, and what else it stores whole and has moved.

    Args:
        model: a PEFT model with supermask adapters, none merged.
        adapter_name: which of them.
        base_name, base_revision: where the base came from; by default what the adapter says.
        task, training: the task, and how it was trained, as JSON.

    Returns:
        The delta; an adapter that `delta_to_peft` made gives the delta's masks, head and descriptions back.

    Raises:
        UnknownNameError: if there is no such adapter.
        DeltaStateError: if masks are merged into the base, or were never loaded.
    """
    tuner = supermask_tuner(model)
    fingerprint_of_base = tuner.base_fingerprint(adapter_name)
    config: SupermaskConfig = tuner.peft_config[adapter_name]
    parameters, tensors = tuner.parameter_map, base_tensors(tuner.model)
    masks, head = tuner.masks(adapter_name), tuner.head(adapter_name)
    values = {
        f"{path}.{name}": tensor
        for path, (_, own) in tuner.saved_modules(adapter_name).items()
        for name, tensor in base_tensors(own).items()
    }
    changes: dict[str, Change] = {}
    for name in dict.fromkeys((*parameters.names, *values)):
        if name in masks:
            changes[name] = KeepMask(masks[name].keep_mask().cpu())
        elif name in values and (name in head or not _same_bits(values[name], tensors[name])):
            changes[name] = DenseValues(values[name].detach().to("cpu", copy=True))
    record = dict(config.record or {})
    return TaskDelta.create(
        changes,
        base=fingerprint_of_base,
        base_tensors=tensors,
        head=head,
        places={
            info.name: ChangePlace(role=info.role.value if info.role else None, block=info.block)
            for info in parameters.infos
        },
        architecture=record.get("architecture", parameters.architecture),
        base_name=base_name or record.get("base_name") or config.base_model_name_or_path or None,
        base_revision=base_revision or record.get("base_revision") or config.revision,
        method=record.get("method") or {"kind": Supermask.kind, **config.method},
        task=record.get("task", {}) if task is None else task,
        training=record.get("training", {}) if training is None else training,
    )


def delta_to_adapter(
    delta: TaskDelta,
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    task_type: str | None = None,
    verify: bool = True,
) -> Path:
    """Write a delta as an adapter's folder, which `PeftModel.from_pretrained` reads.

    Args:
        delta: keep masks, and a head.
        model: its base, with a head of the task's shape; it comes back as it was.
        folder: where to write; it is returned.
        task_type, verify: as for `delta_to_peft`, whose errors are this one's.
    """
    with _given_back(model):
        peft_model = delta_to_peft(delta, model, task_type=task_type, verify=verify)
        try:
            peft_model.save_pretrained(folder, save_embedding_layers=False)
        finally:
            peft_model.unload()
    return Path(folder)


def adapter_to_delta(folder: str | os.PathLike[str], model: nn.Module, **described: Any) -> TaskDelta:
    """Read an adapter's folder as a delta.

    Args:
        folder: where `save_pretrained` wrote a supermask adapter.
        model: its base, with a head of the task's shape; it comes back as it was.
        described: `base_name`, `base_revision`, `task` and `training`, as for `peft_to_delta`.

    Raises:
        BaseMismatchError: if the model is not the adapter's base.
        DeltaFormatError: if masks are missing or damaged.
    """
    with _given_back(model):
        peft_model = PeftModel.from_pretrained(model, os.fspath(folder))
        try:
            return peft_to_delta(peft_model, **described)
        finally:
            supermask_tuner(peft_model).unload()


def _require_expressible(delta: TaskDelta, parameters: ParameterMap) -> None:
    """An adapter has masks, and stores modules whole: the head, all of it or nothing."""
    values = [
        f"{record.name} ({record.kind.replace('_', ' ')})"
        for record in delta.document.changes
        if record.kind != "keep_mask" and record.name not in delta.head
    ]
    if values:
        raise ConfigurationError(
            f"a supermask adapter has masks and a head, and this delta changes values of {len(values)} other tensors: "
            f"{some(values)}; save the task model as a checkpoint instead (supermask.interop.save_checkpoint)"
        )
    if delta.head and set(delta.head) != set(parameters.head):
        raise BaseMismatchError(
            f"the delta's head is {some(list(delta.head))}, and this {parameters.architecture}'s is "
            f"{some(list(parameters.head)) or 'nothing'}; load the base as the delta's task has it"
        )
    if all(record.name in delta.head for record in delta.document.changes):
        raise ConfigurationError("this delta masks nothing, so there is nothing for a supermask adapter to do")


def _owners(parameters: ParameterMap, names: set[str]) -> list[str]:
    """The modules that hold these weights; all of them, where a weight is tied."""
    infos = [info for info in parameters.infos if info.name in names]
    unfit = [info.name for info in infos if not info.is_matrix] + sorted(names - {info.name for info in infos})
    if unfit:
        raise ConfigurationError(f"a supermask adapter masks matrices of layers; the delta masks {some(unfit)}")
    return [name.removesuffix(".weight") for info in infos for name in (info.name, *info.aliases)]


@torch.no_grad()
def _fill(model: Any, adapter_name: str, delta: TaskDelta, base: nn.Module) -> None:
    """Give a new adapter the delta's masks and head."""
    tuner = supermask_tuner(model)
    tensors = base_tensors(base)
    changes = delta.changes_for(tensors)
    for name, mask in tuner.masks(adapter_name).items():
        change = changes[name]
        assert isinstance(change, KeepMask)
        mask.fix(change.keep, device=tensors[name].device)
    for path, (_, own) in tuner.saved_modules(adapter_name).items():
        for name, parameter in own.named_parameters():
            if f"{path}.{name}" in delta.head:
                change = changes[f"{path}.{name}"]
                assert isinstance(change, DenseValues)
                as_bits(parameter).copy_(as_bits(change.values))


def _record(delta: TaskDelta) -> dict[str, Any]:
    """What of a delta is neither mask nor head."""
    base = delta.document.base
    return {
        "base_name": base.name,
        "base_revision": base.revision,
        "architecture": base.architecture,
        "method": delta.method.describe(),
        "task": delta.task.model_dump(mode="json", exclude_unset=True),
        "training": delta.training.model_dump(mode="json", exclude_unset=True),
    }


@contextmanager
def _given_back(model: nn.Module) -> Iterator[None]:
    """The model trains what it trained and is in the mode it was in, whatever PEFT has done to it."""
    requires_grad = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for parameter, flag in requires_grad:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode


def _same_bits(first: Tensor, second: Tensor) -> bool:
    return torch.equal(as_bits(first.cpu()), as_bits(second.cpu()))
