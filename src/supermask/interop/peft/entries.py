"""The entries of an adapter in a state dictionary: which they are, what PEFT calls them, and whether all are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from supermask.errors import DeltaFormatError, DeltaStateError
from supermask.interop.peft.layer import KEEP_KEY, LOGITS_KEY, SupermaskLayer

__all__ = ["adapter_entries", "check_loaded", "named_entries"]


def adapter_entries(model: nn.Module, adapter_name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an adapter's file gets of a model's state dictionary.

    Args:
        model: with the adapter over it.
        adapter_name: the adapter, whose name ends each key.
        state_dict: of the model.

    Raises:
        DeltaStateError: if a mask is missing, because it was never loaded.
    """
    for name, module in model.named_modules():
        wanted = isinstance(module, SupermaskLayer) and adapter_name in module.masks
        if wanted and f"{name}.{KEEP_KEY}.{adapter_name}" not in state_dict:
            module.mask(adapter_name).keep_mask()  # says why, if it can
            raise DeltaStateError(f"the state dictionary to save has no mask for {name}")
    ends = tuple(f".{key}.{adapter_name}" for key in (KEEP_KEY, LOGITS_KEY))
    return {key: tensor for key, tensor in state_dict.items() if key.endswith(ends)}


def named_entries(adapter_name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a file as the model calls them: with the adapter's name at the end.

    Example:
        >>> list(named_entries("default", {"base_model.query.supermask_keep": Tensor(), "base_model.bias": Tensor()}))
        ['base_model.query.supermask_keep.default', 'base_model.bias']
    """
    ends = tuple(f".{key}" for key in (KEEP_KEY, LOGITS_KEY))
    return {f"{key}.{adapter_name}" if key.endswith(ends) else key: value for key, value in state_dict.items()}


def check_loaded(model: nn.Module, incompatible: Any) -> None:
    """After a state dictionary is loaded: an adapter's masks are all in it or none, and all have a place.

    Raises:
        DeltaFormatError: naming the masks that are missing or left over.
    """
    wanted: dict[str, int] = {}
    for layer in model.modules():
        if isinstance(layer, SupermaskLayer):
            for name in layer.masks:
                wanted[name] = wanted.get(name, 0) + 1
    for name, count in wanted.items():
        missing = [key for key in incompatible.missing_keys if key.endswith(f".{KEEP_KEY}.{name}")]
        if 0 < len(missing) < count:
            raise DeltaFormatError(
                f"the file has no mask for {len(missing)} of the {count} modules of adapter {name!r}: {_some(missing)}"
            )
    # PEFT ignores what has no place. (Of `keep.NAME.OTHER`, see `SupermaskLayer`.)
    places = {key: key.rpartition(f".{KEEP_KEY}.") for key in incompatible.unexpected_keys}
    spare = [key for key, (path, _, name) in places.items() if path and "." not in name]
    if spare:
        raise DeltaFormatError(f"the file has masks for modules that the adapter does not target: {_some(spare)}")
    loaded = tuple(f".masks.{name}.mask_logits" for name in wanted)
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not key.endswith(loaded)]


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
