"""Read a saved model's weights one tensor at a time, and say what each of them is, without building the model.

Nothing but safetensors is read, so nothing is unpickled and no code of a checkpoint runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from supermask.errors import BaseMismatchError, ConfigurationError, UnknownNameError
from supermask.models.mapping import map_parameters
from supermask.models.roles import ParameterMap
from supermask.models.sources import find_source, first_line

if TYPE_CHECKING:
    import torch

__all__ = ["BackboneNames", "Checkpoint", "backbone_names", "model_type", "open_checkpoint"]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
# Checkpoints from before PyTorch's own names keep TensorFlow's.
_LEGACY = {".gamma": ".weight", ".beta": ".bias"}


@final
@dataclass(frozen=True)
class Checkpoint(Mapping[str, "torch.Tensor"]):
    """A saved model's tensors by name, each read from its file when it is asked for, and not kept.

    Args:
        name: what it was called.
        files: the safetensors file of each tensor, in the files' order.
        shapes: of the tensors, known without reading them.
        dtypes: of the tensors, in torch's words: `float32`.
        config: the folder's config.json, if there is one.
    """

    name: str
    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    config: Path | None

    def __getitem__(self, name: str) -> torch.Tensor:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.files[name], framework="pt") as file:
                # What safetensors gives is the mapped file; the copy lets go of it.
                tensor: torch.Tensor = file.get_tensor(name).clone()
                return tensor
        except (SafetensorError, OSError) as error:
            raise BaseMismatchError(f"{self.files[name]}: {name} cannot be read: {first_line(error)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@final
@dataclass(frozen=True)
class BackboneNames:
    """What the tensors of an architecture's checkpoints are.

    Args:
        parameters: of the backbone, by the names that it has without a head.
        prefix: what a model with a head puts before these names, `bert.`; empty if nothing.
        buffers: names of the backbone's tensors that are no parameters.
        hidden_size: width of the model; None if its configuration does not say.
        initializer_range: standard deviation of its random initialisation; None if its configuration does not say.
    """

    parameters: ParameterMap
    prefix: str
    buffers: frozenset[str]
    hidden_size: int | None
    initializer_range: float | None

    def canonical(self, name: str) -> str | None:
        """The backbone's name of a checkpoint's tensor, whatever head it was saved with; None if it is none of it.

        Of a tied parameter every name gives the first one.
        """
        bare = name.removeprefix(self.prefix)
        for ending, new in _LEGACY.items():
            if bare.endswith(ending):
                bare = bare.removesuffix(ending) + new
        for info in self.parameters.infos:
            if bare == info.name or bare in info.aliases:
                return info.name
        return None

    def is_buffer(self, name: str) -> bool:
        """Whether a checkpoint's tensor is a buffer of the backbone, such as the numbers of positions."""
        return name.removeprefix(self.prefix) in self.buffers


def open_checkpoint(name_or_path: str | Path, *, revision: str | None = None) -> Checkpoint:
    """Find a saved model and read the headers of its safetensors files.

    Example:
        >>> open_checkpoint("nowhere/at/all")
        Traceback (most recent call last):
        supermask.errors.UnknownNameError: there is no folder 'nowhere/at/all'; pass a local folder ...
    """
    place = Path(name_or_path).expanduser() if str(name_or_path).endswith(".safetensors") else None
    if place is not None:
        if revision is not None:
            raise ConfigurationError(f"revision {revision!r} was given, but {place} is a file; leave revision out")
        if not place.is_file():
            raise UnknownNameError(f"there is no file {place}; pass a folder, a safetensors file or a hub id")
        return _read_headers(str(name_or_path), {place: None}, _config_in(place.parent))
    source = find_source(name_or_path, revision)
    folder = Path(source.location)
    if source.kind == "hub":
        folder = _snapshot(source.location, source.revision, local_files_only=source.local_files_only)
    return _read_headers(source.name, _weight_files(folder, source.name), _config_in(folder))


def backbone_names(config: Path) -> BackboneNames | None:
    """What the tensors of a checkpoint are, from the architecture of its config.json, built without weights.

    Returns:
        The names with roles and blocks; None if transformers knows no such architecture.
    """
    from supermask.models.loading import quiet_transformers

    with quiet_transformers():
        import torch
        from transformers import AutoConfig, AutoModel

        try:
            settings = AutoConfig.from_pretrained(str(config), trust_remote_code=False)
            with torch.device("meta"):
                model = AutoModel.from_config(settings, trust_remote_code=False)
        except (ValueError, KeyError, OSError, TypeError, AttributeError, ImportError) as error:
            if model_type(config) is None:
                raise ConfigurationError(f"{config} is no model's configuration: {first_line(error)}") from None
            return None
    prefix = f"{model.base_model_prefix}." if model.base_model_prefix else ""
    buffers = frozenset(name for name, _ in model.named_buffers(remove_duplicate=False))
    width, spread = (getattr(settings, name, None) for name in ("hidden_size", "initializer_range"))
    return BackboneNames(
        map_parameters(model),
        prefix,
        buffers,
        hidden_size=width if isinstance(width, int) else None,
        initializer_range=spread if isinstance(spread, float) else None,
    )


def model_type(config: Path) -> str | None:
    """The architecture that a config.json names; None if it names none or cannot be read."""
    try:
        found = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = found.get("model_type") if isinstance(found, dict) else None
    return kind if isinstance(kind, str) else None


def _config_in(folder: Path) -> Path | None:
    return folder / _CONFIG if (folder / _CONFIG).is_file() else None


def _weight_files(folder: Path, name: str) -> dict[Path, frozenset[str] | None]:
    """The safetensors files of a folder, each with the tensors that the index wants from it, if there is an index."""
    if (folder / _WEIGHTS).is_file():
        return {folder / _WEIGHTS: None}
    index = folder / _INDEX
    if not index.is_file():
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.h5") for path in folder.glob(pattern))
        remedy = (
            f"it has {pickled[0]}, which is not read, as it may hold code; save the model with save_pretrained"
            if pickled
            else f"a saved model has {_WEIGHTS}, or shards and {_INDEX}"
        )
        raise UnknownNameError(f"{name} has no safetensors weights: {remedy}")
    try:
        wanted: Any = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards: dict[Path, set[str]] = {}
        for tensor, file in wanted.items():
            if Path(file).name != file:
                raise BaseMismatchError(f"{index} names {file!r}, which is no file of this folder")
            shards.setdefault(folder / file, set()).add(tensor)
    except BaseMismatchError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaseMismatchError(f"{index} is damaged: {first_line(error)}; fetch it again") from None
    if missing := [path.name for path in shards if not path.is_file()]:
        raise BaseMismatchError(
            f"{name} lacks {len(missing)} of its {len(shards)} shards ({missing[0]}); fetch it again"
        )
    return {path: frozenset(shards[path]) for path in sorted(shards)}


def _read_headers(name: str, files: Mapping[Path, frozenset[str] | None], config: Path | None) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    found: dict[str, Path] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for path, wanted in files.items():
        try:
            with safe_open(path, framework="pt") as file:
                inside = list(file.keys())
                if wanted is not None and (missing := sorted(wanted.difference(inside))):
                    raise BaseMismatchError(f"{path} lacks {missing[0]}, which the index says it has; fetch it again")
                for tensor in inside:
                    header = file.get_slice(tensor)
                    found[tensor] = path
                    shapes[tensor] = tuple(header.get_shape())
                    dtypes[tensor] = _dtype_name(header.get_dtype())
        except (SafetensorError, OSError) as error:
            raise BaseMismatchError(f"{path} is no safetensors file or damaged: {first_line(error)}") from None
    if not found:
        raise BaseMismatchError(f"{name} holds no tensor at all")
    return Checkpoint(name=name, files=found, shapes=shapes, dtypes=dtypes, config=config)


def _dtype_name(stored: str) -> str:
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    return names.get(stored, stored.lower())


def _snapshot(repo_id: str, revision: str | None, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=[_WEIGHTS, _INDEX, "model-*.safetensors", _CONFIG],
                local_files_only=local_files_only,
            )
        )
    # The library's errors, its HTTP client's and its storage's change between releases; none of it is a fault of ours.
    except Exception as error:
        raise UnknownNameError(
            f"the weights of '{repo_id}' could not be fetched from the hub: {first_line(error)}"
        ) from error
