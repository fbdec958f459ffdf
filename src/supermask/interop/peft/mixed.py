"""Batches in which every row has an adapter of its own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from supermask.errors import ConfigurationError

__all__ = ["BASE_ROWS", "rows_by_adapter"]

BASE_ROWS = "__base__"
"""What PEFT calls the rows that take no adapter."""

_ROW_INPUTS = frozenset(
    {
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "position_ids",
        "inputs_embeds",
        "decoder_input_ids",
        "decoder_attention_mask",
        "decoder_inputs_embeds",
    }
)


@contextmanager
def rows_by_adapter(model: nn.Module, adapter_names: Sequence[str]) -> Iterator[None]:
    """Within the block, a call of the model takes each row through the adapter named for it; `"__base__"` names none.

    The rows of one adapter go through the whole model together, with that adapter alone, and come back to their places.
    So each row's result is what its adapter gives, whatever the layers do with the batch in between: position tables,
    relative embeddings and experts have no row to choose a mask by.
    """
    names = list(adapter_names)
    forward = model.forward
    own = "forward" in vars(model)
    signature = inspect.signature(forward)

    @functools.wraps(forward)  # generation looks at the signature
    def by_adapter(*args: Any, **kwargs: Any) -> Any:
        inputs = _inputs(signature, args, kwargs)
        _check(inputs, len(names))
        rows = {name: torch.tensor([row for row, other in enumerate(names) if other == name]) for name in names}
        outputs = []
        for name, chosen in rows.items():
            with _only(model, name):
                outputs.append(forward(**{key: _rows_of(value, chosen, len(names)) for key, value in inputs.items()}))
        return _merged(outputs, list(rows.values()))

    model.forward = by_adapter
    try:
        yield
    finally:
        if own:
            model.forward = forward
        else:
            del model.forward


@contextmanager
def _only(model: nn.Module, name: str) -> Iterator[None]:
    """One adapter active for a while, or none, without touching what trains."""
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    before = [(layer, layer._active_adapter, layer._disable_adapters) for layer in layers]
    for layer in layers:
        layer._disable_adapters = name == BASE_ROWS
        if name != BASE_ROWS:
            here = not isinstance(layer, AuxiliaryTrainingWrapper) or name in layer._adapters
            layer._active_adapter = [name] if here else []
    try:
        yield
    finally:
        for layer, active, disabled in before:
            layer._active_adapter, layer._disable_adapters = active, disabled


def _inputs(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments by name, without those that are None."""
    bound = signature.bind(*args, **kwargs)
    inputs: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            raise ConfigurationError("pass a batch with adapter_names by keyword")
        inputs.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
    inputs = {name: value for name, value in inputs.items() if value is not None}
    if "use_cache" in signature.parameters:
        inputs["use_cache"] = False  # a cache of several adapters has no use
    return inputs


def _check(inputs: Mapping[str, Any], rows: int) -> None:
    faults = []
    for name, value in inputs.items():
        if name in _ROW_INPUTS:
            if not isinstance(value, Tensor) or len(value) not in (1, rows) or (len(value) != rows and value.dim() > 2):
                faults.append(f"{name} has not the {rows} rows that adapter_names has")
        elif not isinstance(value, bool | int | float | str):
            faults.append(f"{name} cannot be shared out among the rows' adapters")
    if "labels" in inputs:
        faults.append("a loss over rows of several adapters belongs to none of them: leave out labels")
    if "past_key_values" in inputs:
        faults.append("generate for one adapter at a time, after set_adapter")
    if faults:
        raise ConfigurationError(f"a batch with adapter_names: {'; '.join(faults)}")


def _rows_of(value: Any, rows: Tensor, count: int) -> Any:
    return value[rows.to(value.device)] if isinstance(value, Tensor) and len(value) == count else value


def _merged(outputs: list[Any], rows: list[Tensor]) -> Any:
    """Put the groups' outputs together, row by row."""
    first = outputs[0]
    if isinstance(first, Tensor):
        whole = first.new_empty((sum(map(len, rows)), *first.shape[1:]))
        for output, chosen in zip(outputs, rows, strict=True):
            if len(output) != len(chosen):
                raise ConfigurationError(
                    f"the model gives a tensor of shape {tuple(output.shape)} for {len(chosen)} rows, which cannot be "
                    "shared out among adapters; call it for one adapter at a time"
                )
            whole = whole.index_copy(0, chosen.to(whole.device), output)
        return whole
    if first is None:
        return None
    if isinstance(first, Mapping):
        parts = {key: _merged([output[key] for output in outputs], rows) for key in first}
        return type(first)(**parts)
    if isinstance(first, list | tuple):
        return tuple(_merged(list(parts), rows) for parts in zip(*outputs, strict=True))
    raise ConfigurationError(f"the model gives a {type(first).__name__}, which cannot be shared out among adapters")
