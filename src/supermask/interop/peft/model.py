"""The tuner: what PEFT drives, under the name `model.base_model`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, cast, final

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from supermask.core.sparsity import zero_count, zeros_of_logits
from supermask.deltas import Fingerprint, fingerprint
from supermask.deltas.applying import applied_digest
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaStateError, UnknownNameError
from supermask.interop.peft.config import SupermaskConfig
from supermask.interop.peft.layer import SupermaskLayer, adapter_entries, check_loaded, named_entries
from supermask.interop.peft.mask import AdapterMask
from supermask.interop.peft.mixed import BASE_ROWS, rows_by_adapter
from supermask.interop.peft.targets import base_modules, base_tensors, check_targets, complete_, covers
from supermask.methods.draw_clock import DrawClock
from supermask.models import map_parameters

__all__ = ["PREFIX", "SupermaskModel"]

PREFIX = "supermask_"
"""What the keys of masks have in common in an adapter's file."""


@final
class SupermaskModel(BaseTuner):  # type: ignore[misc]  # peft is not typed
    """Supermask adapters over a base; `peft.get_peft_model` and `PeftModel.from_pretrained` make one.

    In a training loop of your own, call `begin_step` before each forward pass; `SupermaskCallback` does so for a
    Trainer.

    Args:
        model: the base; target modules are replaced in it.
        peft_config: settings by adapter.
        adapter_name: the first adapter.
        low_cpu_mem_usage: leave mask logits on the meta device until they are loaded.
        state_dict: not supported; target modules come from the settings.
    """

    prefix: str = PREFIX
    tuner_layer_cls = SupermaskLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def __init__(
        self,
        model: nn.Module,
        peft_config: dict[str, SupermaskConfig] | SupermaskConfig,
        adapter_name: str,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        if any(isinstance(module, BaseTunerLayer) for module in model.modules()):
            raise DeltaStateError(
                "this model carries PEFT layers already; add_adapter puts more adapters over the same base, and "
                "unload takes them off"
            )
        # The parent's constructor adds the first adapter, which needs both of these.
        self.clock = DrawClock(numbers_passes=True)
        self.parameter_map = map_parameters(model)
        super().__init__(model, peft_config, adapter_name, low_cpu_mem_usage, state_dict)
        self._hooks = [
            *self.clock.watch_(model),
            model.register_load_state_dict_post_hook(check_loaded),  # type: ignore[no-untyped-call]
        ]

    # Training.

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output."""
        return self.model(*args, **kwargs)  # before version 0.21, PEFT goes past the model's hooks

    def begin_step(self, step: int, micro_batch: int = 0) -> None:
        """Say which optimizer step, counted from 0, and which of its micro-batches comes next; it keys the draws.

        Without it, forward passes are numbered from the beginning, so that every one of them has a fresh draw. Compiled
        graphs cannot number them: call this before each.
        """
        self.clock.begin_step(step, micro_batch)

    def statistics(self, adapter_name: str = "default") -> dict[str, float]:
        """Fractions of zeros among the masked weights: of the thresholded mask, and of a draw in expectation."""
        masks = self.masks(adapter_name).values()
        logits = [mask.mask_logits for mask in masks if mask.mask_logits is not None]
        fixed = sum(zero_count(mask.keep_mask()) for mask in masks if mask.mask_logits is None)
        zeros, expected = zeros_of_logits(logits)
        weights = sum(math.prod(mask.shape) for mask in masks)
        return {"sparsity": (zeros + fixed) / weights, "sampled_sparsity": (expected + fixed) / weights}

    @property
    def recompute(self) -> bool:
        """Whether linear layers draw their masked weight again in the backward pass, instead of keeping it until then.

        The numbers are the same; see `supermask.core.kernels.masked_linear`. Adapters added later start with True.
        """
        return all(mask.recompute for mask in self._all_masks())

    @recompute.setter
    def recompute(self, recompute: bool) -> None:
        for mask in self._all_masks():
            mask.recompute = recompute

    def save_logits_(self, on: bool) -> None:
        """Have state dictionaries hold the logits of all adapters, or only of those whose settings say so."""
        for mask in self._all_masks():
            mask.saves_logits = on

    # What is there.

    def masks(self, adapter_name: str = "default") -> dict[str, AdapterMask]:
        """The masks of one adapter by parameter name; a tied weight has one, under its first name.

        Raises:
            UnknownNameError: if there is no such adapter.
        """
        self._require(adapter_name)
        masks = (layer.mask(adapter_name) for layer in self._layers() if adapter_name in layer.masks)
        return {mask.name: mask for mask in masks}

    def saved_modules(self, adapter_name: str = "default") -> dict[str, tuple[nn.Module, nn.Module]]:
        """The modules that an adapter stores whole, by path: the base's, and the adapter's."""
        self._require(adapter_name)
        return {
            path: (module.original_module, module.modules_to_save[adapter_name])
            for path, module in self.model.named_modules()
            if isinstance(module, AuxiliaryTrainingWrapper) and adapter_name in module._adapters
        }

    def base_fingerprint(self, adapter_name: str = "default") -> Fingerprint:
        """The fingerprint of the base without the head that the adapter brings.

        Raises:
            DeltaStateError: if masks are merged into the base.
        """
        self._require_unmerged("the base is not itself, so it has no fingerprint")
        head = self.head(adapter_name)
        return fingerprint({name: tensor for name, tensor in base_tensors(self.model).items() if name not in head})

    def head(self, adapter_name: str = "default") -> tuple[str, ...]:
        """Names of the task head's parameters that the adapter brings, in model order."""
        modules = self._require(adapter_name).modules_to_save or []
        return tuple(name for name in self.parameter_map.head if covers(modules, name))

    # Adding and removing adapters.

    def inject_adapter(
        self,
        model: nn.Module,
        adapter_name: str,
        autocast_adapter_dtype: bool = True,
        low_cpu_mem_usage: bool = False,
        state_dict: dict[str, Tensor] | None = None,
    ) -> None:
        """Put an adapter over the base, after checking everything that could be wrong with it.

        Raises:
            ConfigurationError: if PEFT could not tell the adapter's tensors from others by its name.
            SelectionError: if a target module cannot be masked.
            BaseMismatchError: if the adapter was made on another base.
            DeltaStateError: if the base has masks merged into it, or a delta applied.
        """
        config = self.peft_config[adapter_name]
        if not isinstance(config, SupermaskConfig):
            raise ConfigurationError(f"a supermask adapter needs a SupermaskConfig, received {type(config).__name__}")
        if state_dict is not None:
            raise ConfigurationError("name target modules in the configuration: masks do not follow a state_dict")
        self._check_name(adapter_name)
        self._require_unmerged("a new adapter needs the base as it is")
        if applied_digest(model) is not None:
            raise DeltaStateError("a delta is applied to this model, so it is not the base; remove the delta first")
        complete_(config, self.model, self.parameter_map)
        modules = base_modules(model)
        matches = {path: bool(path and self._check_target_module_exists(config, path)) for path in modules}
        check_targets({path: module for path, module in modules.items() if matches[path]}, modules)
        if config.verify_base:
            self._check_base(adapter_name, config)
        if not config.inference_mode:
            config.record = None  # it will soon be another delta
        super().inject_adapter(model, adapter_name, autocast_adapter_dtype, low_cpu_mem_usage, state_dict)

    def delete_adapter(self, adapter_name: str) -> None:
        """Take an adapter off.

        Raises:
            DeltaStateError: if it is merged; without it the base could not be restored.
        """
        if any(adapter_name in layer.merged_adapters for layer in self._layers()):
            raise DeltaStateError(f"{adapter_name!r} is merged into the base; unmerge_adapter first")
        for layer in list(self._layers()):
            # First, because older versions stumble over what goes while they look.
            BaseTunerLayer.delete_adapter(layer, adapter_name)
        super().delete_adapter(adapter_name)

    def unload(self) -> nn.Module:
        """Take everything off: the base, which is returned, is as it was, bit for bit, its head too."""
        for layer in self._layers():
            layer.unmerge()
        # PEFT's own gives back the active adapter's copies of what it stores whole.
        originals = {
            path: module.original_module
            for path, module in self.model.named_modules()
            if isinstance(module, AuxiliaryTrainingWrapper)
        }
        model = cast(nn.Module, super().unload())
        for path, module in originals.items():
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, module)
        return self._unhooked(model)

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: list[str] | None = None
    ) -> nn.Module:
        """The base as the task model, without PEFT: dropped weights are zero, and it has the adapter's head."""
        return self._unhooked(cast(nn.Module, super().merge_and_unload(progressbar, safe_merge, adapter_names)))

    def _unhooked(self, model: nn.Module) -> nn.Module:
        while self._hooks:
            self._hooks.pop().remove()
        vars(model).pop("peft_config", None)
        return model

    def _layers(self) -> Iterator[SupermaskLayer]:
        return (module for module in self.model.modules() if isinstance(module, SupermaskLayer))

    def _all_masks(self) -> Iterator[AdapterMask]:
        return (mask for name in self.peft_config for mask in self.masks(name).values())

    def _require(self, adapter_name: str) -> SupermaskConfig:
        if adapter_name not in self.peft_config:
            raise UnknownNameError(f"there is no adapter {adapter_name!r}; adapters: {', '.join(self.peft_config)}")
        return cast(SupermaskConfig, self.peft_config[adapter_name])

    def _require_unmerged(self, why: str) -> None:
        if any(layer.merged for layer in self._layers()):
            raise DeltaStateError(f"masks are merged into the base; {why}: unmerge_adapter first")

    def _check_name(self, adapter_name: str) -> None:
        parts = {part for name in self.parameter_map.names for part in name.split(".")}
        if adapter_name in parts or adapter_name == BASE_ROWS:
            raise ConfigurationError(
                f"{adapter_name!r} is the name of a module of this model, and PEFT goes by names when it stores "
                "adapters, so that parts would be lost; call the adapter otherwise"
            )

    def _check_base(self, adapter_name: str, config: SupermaskConfig) -> None:
        digest = self.base_fingerprint(adapter_name).digest
        if config.base_digest not in (None, digest):
            raise BaseMismatchError(
                f"this model is not the base that the adapter was made on (fingerprint {digest[:16]} instead of "
                f"{str(config.base_digest)[:16]}); load that base, in the same dtype: "
                f"{config.base_model_name_or_path or 'its name is not known'}. With verify_base=False in its "
                "configuration the adapter goes on any base of its shape"
            )
        config.base_digest = digest

    # What PEFT asks of a tuner.

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **kwargs: Any,
    ) -> None:
        layer = target if isinstance(target, SupermaskLayer) else SupermaskLayer(target)
        weight = layer.base_weight
        twins = (other for other in self._layers() if other.base_weight is weight and adapter_name in other.masks)
        twin = next(twins, None)
        layer.masks[adapter_name] = (
            twin.mask(adapter_name)
            if twin
            else AdapterMask(weight, name=f"{current_key}.weight", config=peft_config, clock=self.clock)
        )
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        # PEFT's own also looks for weights to hand over, and fails at a head that has none of its own.
        setattr(parent, child_name, new_module)

    def _mark_only_adapters_as_trainable(self, model: nn.Module) -> None:
        # Before version 0.21, PEFT goes by the prefix, which the logits must not have: with it, they would be stored.
        logits = [mask.mask_logits for layer in self._layers() for mask in layer.masks.children()]
        trained = [parameter for parameter in logits if parameter is not None and parameter.requires_grad]
        super()._mark_only_adapters_as_trainable(model)
        for parameter in trained:
            parameter.requires_grad_(True)

    def _check_tied_modules(self, model: nn.Module, peft_config: PeftConfig) -> None:
        """Nothing: PEFT's own warns of every tied embedding, and `check_targets` refuses those that would go wrong."""

    def _get_tied_target_modules(self, model: nn.Module) -> list[str]:
        """None that PEFT should warn of, for the same reason."""
        return []

    def _check_merge_allowed(self) -> None:
        """Every mask must be there before the first is merged."""
        for name in self.active_adapters:
            for mask in self.masks(name).values():
                mask.keep_mask()

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        adapter_names = kwargs.get("adapter_names")
        if adapter_names is None:
            yield
            return
        if self.training:
            raise ConfigurationError("adapter_names goes with evaluation mode; train one adapter at a time")
        self._require_unmerged("rows cannot differ in their adapters")
        for name in set(adapter_names) - {BASE_ROWS}:
            self._require(name)
        with rows_by_adapter(self.model, adapter_names):
            yield

    # The next two are asked from version 0.21 on; before it, PEFT does the same by the prefix.

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: Mapping[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        return adapter_entries(model, adapter_name, state_dict)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return named_entries(adapter_name, state_dict)
