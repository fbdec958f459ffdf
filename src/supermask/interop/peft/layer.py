"""A layer with masks over its weight: what stands in the model where a target module stood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, final

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn
from torch.func import functional_call

from supermask.core.kernels.ops import compute_dtype
from supermask.errors import DeltaFormatError, DeltaStateError
from supermask.interop.peft.mask import AdapterMask
from supermask.methods.mask_parametrization import multiplies_transposed

__all__ = ["KEEP_KEY", "LOGITS_KEY", "SupermaskLayer", "adapter_entries", "check_loaded", "named_entries", "some"]

KEEP_KEY = "supermask_keep"
"""What a packed mask is called in a file, behind the module's path."""

LOGITS_KEY = "supermask_logits"
"""What its logits are called there, if they were saved."""


@final
class SupermaskLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]  # peft is not typed
    """Any module with a matrix called `weight`, computed with masked weights.

    The module's own `forward` runs with θ = θ̃ ⊙ μ in place of θ̃, so that hooks, biases, scales and transposed storage
    work as they do without a mask. Several active adapters drop what any of them drops.

    Args:
        base_layer: the module.
    """

    adapter_layer_names = ("masks",)
    other_param_names = ()

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.masks = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter: list[str] = []

    @property
    def base_weight(self) -> Tensor:
        """The base's weight, which masks never write to unless they are merged."""
        return cast(Tensor, self.base_layer.weight)

    def mask(self, adapter_name: str) -> AdapterMask:
        """The mask of one adapter, which must be here."""
        return cast(AdapterMask, self.masks[adapter_name])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The base layer's output with masked weights; its own, if adapters are disabled or merged into it."""
        if self.disable_adapters:
            return self.base_layer(*args, **kwargs)
        masks = [self.mask(name) for name in cast(list[str], self.active_adapters) if name in self.masks]
        training = [mask for mask in masks if mask.trains] if self.training else []
        if self.merged:
            if training and torch.is_grad_enabled():
                raise DeltaStateError("masks are merged into the base, so training would not move them; unmerge first")
            return self.base_layer(*args, **kwargs)
        if len(training) > 1:
            raise DeltaStateError(
                f"{len(training)} active adapters would train over {training[0].name} at once, each through the "
                "other's zeros; make one of them active, or freeze the others with set_requires_grad"
            )
        if not masks:
            return self.base_layer(*args, **kwargs)
        *others, last = sorted(masks, key=lambda mask: mask in training)  # a gradient reaches the last one alone
        weight = self.base_weight
        for mask in others:
            weight = mask.masked(weight, sampled=False)
        transposed = multiplies_transposed(self.base_layer)
        alone = len(args) == 1 and not kwargs and not _has_hooks(self.base_layer)
        if training and torch.is_grad_enabled() and transposed is not None and alone:
            bias = cast("Tensor | None", self.base_layer.bias)
            return last.linear(args[0], weight, bias, transposed=transposed)
        dtype = weight.dtype if transposed is None else compute_dtype(weight)
        weight = last.masked(weight, sampled=bool(training), dtype=dtype)
        return functional_call(self.base_layer, {"weight": weight}, args, kwargs)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Zero in the base what the masks drop; see `SupermaskModel.merge_adapter`."""
        weight = self.base_weight
        for name in check_adapters_to_merge(self, adapter_names):
            if name in self.masks:
                if safe_merge and not bool(torch.isfinite(weight).all()):
                    raise ValueError(f"{self.mask(name).name} of the base is not finite, so nothing is merged into it")
                self.mask(name).merge_(weight)
                self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Give the base its weights back, bit for bit."""
        while self.merged_adapters:
            self.mask(self.merged_adapters[-1]).unmerge_(self.base_weight)
            self.merged_adapters.pop()

    def enable_adapters(self, enabled: bool) -> None:
        """Switch the masks on or off; merged ones are unmerged first, because what is merged cannot be off."""
        if not enabled:
            self.unmerge()
        super().enable_adapters(enabled)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """False: a mask is no sum of the base and something of low rank."""
        return False

    # State dictionaries. `masks.NAME.mask_logits` is what torch itself stores of logits. Beside it stand the entries of
    # an adapter's file; PEFT puts the adapter's name behind their last part, and takes it off again.

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self.masks:
            mask = self.mask(name)
            if mask.is_loaded and not (mask.mask_logits is not None and mask.mask_logits.is_meta):
                destination[f"{prefix}{KEEP_KEY}.{name}"] = mask.packed()
                if mask.mask_logits is not None and (mask.config.save_logits or mask.saves_logits):
                    destination[f"{prefix}{LOGITS_KEY}.{name}"] = mask.mask_logits.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        packed = _taken(state_dict, f"{prefix}{KEEP_KEY}.")
        logits = _taken(state_dict, f"{prefix}{LOGITS_KEY}.")
        for name in self.masks:
            key = f"{prefix}{KEEP_KEY}.{name}"
            if name in packed:
                self.mask(name).load(self.base_weight, packed=packed.pop(name), logits=logits.pop(name, None))
            elif name in logits:
                raise DeltaFormatError(f"{prefix}{LOGITS_KEY}: the file has logits and no mask")
            elif f"{prefix}masks.{name}.mask_logits" not in state_dict:
                missing_keys.append(key)
        # Before version 0.20, PEFT writes the masks of all adapters to each one's file, and loads `keep.OTHER` of
        # adapter NAME as `keep.NAME.OTHER`.
        unexpected_keys.extend(f"{prefix}{KEEP_KEY}.{name}" for name in packed if "." not in name)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # PEFT's own would cast the logits to the base's dtype as well.
        if adapter_name in self.masks and not any(p.is_meta for p in self.mask(adapter_name).parameters()):
            self.mask(adapter_name).to(device or self.base_weight.device)


def _has_hooks(module: nn.Module) -> bool:
    """Whether calling a module does more than its `forward`."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]


def _taken(state_dict: dict[str, Any], start: str) -> dict[str, Tensor]:
    """Take the entries that start so out of a state dictionary, by what follows."""
    keys = [key for key in state_dict if key.startswith(start)]
    return {key[len(start) :]: state_dict.pop(key) for key in keys}


def adapter_entries(model: nn.Module, adapter_name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an adapter's file gets of a model's state dictionary."""
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
    """After a state dictionary is loaded: an adapter's masks are all in it or none, and all have a place."""
    wanted: dict[str, int] = {}
    for layer in model.modules():
        if isinstance(layer, SupermaskLayer):
            for name in layer.masks:
                wanted[name] = wanted.get(name, 0) + 1
    for name, count in wanted.items():
        missing = [key for key in incompatible.missing_keys if key.endswith(f".{KEEP_KEY}.{name}")]
        if 0 < len(missing) < count:
            raise DeltaFormatError(
                f"the file has no mask for {len(missing)} of the {count} modules of adapter {name!r}: {some(missing)}"
            )
    # PEFT ignores what has no place. (Of `keep.NAME.OTHER`, see `SupermaskLayer`.)
    places = {key: key.rpartition(f".{KEEP_KEY}.") for key in incompatible.unexpected_keys}
    spare = [key for key, (path, _, name) in places.items() if path and "." not in name]
    if spare:
        raise DeltaFormatError(f"the file has masks for modules that the adapter does not target: {some(spare)}")
    loaded = tuple(f".masks.{name}.mask_logits" for name in wanted)
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if not key.endswith(loaded)]


def some(names: list[str]) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
