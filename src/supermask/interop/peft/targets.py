"""Which modules of a base an adapter masks and which it stores whole, and what the base's own tensors are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any, cast

from peft import TaskType
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.parametrize import is_parametrized
from transformers.pytorch_utils import Conv1D

from supermask.errors import SelectionError
from supermask.interop.peft.config import SupermaskConfig
from supermask.interop.peft.layer import SupermaskLayer
from supermask.methods.selecting import constrained_matrices
from supermask.models import MATRICES, ParameterMap

__all__ = [
    "base_modules",
    "base_tensors",
    "check_targets",
    "complete_",
    "covers",
    "head_modules",
]

_TASKS_WITH_NEW_HEADS = (TaskType.SEQ_CLS, TaskType.TOKEN_CLS, TaskType.QUESTION_ANS)


def base_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The base's own modules by path, as they are called without adapters."""
    return dict(_walk(model, ""))


def base_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The base's live parameters and persistent buffers by name, whatever adapters are on it; tied ones under each."""
    tensors: dict[str, Tensor] = {}
    for path, module in _walk(model, ""):
        prefix = f"{path}." if path else ""
        buffers = (
            (name, buffer)
            for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
            if name not in module._non_persistent_buffers_set
        )
        own = chain(module.named_parameters(recurse=False, remove_duplicate=False), buffers)
        tensors.update((prefix + name, tensor) for name, tensor in own)
    return tensors


def head_modules(parameters: ParameterMap) -> list[str]:
    """The outermost modules that hold the task head's parameters and no others, in model order."""
    head, names = set(parameters.head), parameters.names
    found: dict[str, None] = {}
    for name in parameters.head:
        parts = name.split(".")
        paths = [".".join(parts[:length]) for length in range(1, len(parts))]
        whole = (path for path in paths if all(n in head for n in names if n.startswith(f"{path}.")))
        module = next(whole, None)
        if module is None:
            raise SelectionError(f"{name} of the head belongs to no module of its own, so PEFT cannot store it")
        found[module] = None
    return list(found)


def complete_(config: SupermaskConfig, model: nn.Module, parameters: ParameterMap) -> None:
    """Fill in what an adapter's settings leave open, in place: target modules, and the whole of the head.

    By default the matrices that `Supermask` masks are targets; `"all-linear"` is the linear layers outside the head.
    The map of the base's parameters is to be from before anything was put over it.
    """
    if config.target_modules is None:
        infos = constrained_matrices(parameters, select=MATRICES, exclude=(), verb="mask")
        targets = {name.removesuffix(".weight") for info in infos for name in (info.name, *info.aliases)}
        config.target_modules = cast(Any, targets)
    elif isinstance(config.target_modules, str) and config.target_modules.lower() == "all-linear":
        linear = (path for path, module in base_modules(model).items() if isinstance(module, nn.Linear | Conv1D))
        config.target_modules = cast(Any, {path for path in linear if f"{path}.weight" not in parameters.head})
    get_output_embeddings = getattr(model, "get_output_embeddings", lambda: None)
    new_head = config.modules_to_save is None and get_output_embeddings() is None
    saved = list(dict.fromkeys(config.modules_to_save or []))
    if parameters.head and (new_head or config.task_type in _TASKS_WITH_NEW_HEADS):
        saved += [module for module in head_modules(parameters) if not covers(saved, f"{module}.weight")]
    config.modules_to_save = saved or config.modules_to_save


def covers(modules: Collection[str], name: str) -> bool:
    """Whether `modules_to_save` covers a parameter, by PEFT's rule: a module's path, or the end of it."""
    parts = name.split(".")
    paths = [".".join(parts[:length]) for length in range(1, len(parts))]
    return any(path == module or path.endswith(f".{module}") for path in paths for module in modules)


def check_targets(targets: Mapping[str, nn.Module], modules: Mapping[str, nn.Module]) -> None:
    """Refuse modules, by path, whose weights cannot be masked: an error names each and what is wrong with it."""
    owners: dict[int, list[str]] = {}
    places: dict[int, list[str]] = {}
    for path, module in modules.items():
        places.setdefault(id(module), []).append(path)
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), []).append(path)
    faults = [f"{path} {fault}" for path, module in targets.items() if (fault := _fault(module))]
    if not faults:
        for path, module in targets.items():
            if others := [other for other in places[id(module)] if other != path]:
                faults.append(f"{path} is the very module {others[0]}, which PEFT would leave unmasked")
            elif others := [other for other in owners[id(module.weight)] if other not in targets]:
                faults.append(
                    f"the weight of {path} is tied to {others[0]}, which would go on without the mask: target both, or "
                    "neither"
                )
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise SelectionError(f"cannot mask: {'; '.join(faults[:3])}{more}")


def _fault(module: nn.Module) -> str:
    if not isinstance(module, nn.Linear | nn.Embedding | Conv1D):
        return f"is a {type(module).__name__}: only linear layers, embeddings and Conv1D can be; narrow target_modules"
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return "is never called, only read, by its nn.MultiheadAttention, so that a mask would have no effect"
    if is_parametrized(module):
        return "is parametrised, by a method perhaps: detach the method first"
    weight: Any = module.weight
    if not weight.is_floating_point() or weight.dim() != 2:
        return f"holds {weight.dtype} of shape {tuple(weight.shape)}: load the base without quantisation"
    if weight.is_meta:
        return "is on the meta device: load the model's weights first, without offloading"
    return ""


def _walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """The base's modules by their paths without adapters; one that stands in two places comes twice."""
    if isinstance(module, SupermaskLayer):
        yield from _walk(module.base_layer, path)
    elif isinstance(module, AuxiliaryTrainingWrapper):
        yield from _walk(module.original_module, path)
    else:
        yield path, module
        for name, child in module._modules.items():
            if child is not None:
                yield from _walk(child, f"{path}.{name}" if path else name)
