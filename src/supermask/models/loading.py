"""Read configuration, tokenizer and weights of a base with transformers, quietly, and check that nothing is missing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supermask.errors import (
    BaseMismatchError,
    ConfigurationError,
    MissingDependencyError,
    SelectionError,
    UnknownNameError,
)
from supermask.models.mapping import map_parameters
from supermask.models.roles import ParameterMap
from supermask.models.sources import BaseSource, first_line

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["load", "quiet_transformers"]


def load(
    source: BaseSource,
    *,
    num_labels: int,
    regression: bool,
    seed: int,
    random_init: bool,
    dtype: torch.dtype,
    allow_new: Sequence[str],
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, tuple[str, ...], tuple[str, ...]]:
    """Read a base from its place; `load_base` says what the arguments mean, and what goes wrong.

    Returns:
        The model, the tokenizer, the names of its freshly drawn parameters, and the checkpoint's tensors without a
        place.
    """
    with quiet_transformers():
        config = _config(source, num_labels, regression)
        tokenizer = _tokenizer(source)
        model, loaded = _model(source, config, seed=seed, random_init=random_init, dtype=dtype)
    parameter_map = map_parameters(model)
    for pattern in allow_new:
        if not any(fnmatchcase(name, pattern) for name in parameter_map.names):
            raise SelectionError(
                f"allow_new has '{pattern}', which matches no parameter of {parameter_map.architecture}"
            )
    new, unused = parameter_map.names, tuple[str, ...]()
    if loaded is not None:
        new, unused = _check_loaded(source, parameter_map, loaded, allow_new)
    _agree_on_padding(source, model, tokenizer)
    return model.eval(), tokenizer, new, unused


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back transformers' tables of missing keys and bars of loaded and written weights."""
    try:
        from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
        from transformers.utils import logging
    except ImportError as error:
        raise MissingDependencyError(
            "loading a base needs transformers; run: pip install 'supermask[train]'"
        ) from error

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    download_bars = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    # transformers' switch also moves the hub's own, and the hub warns where an environment variable outranks it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if bars:
            logging.disable_progress_bar()
        if download_bars:
            enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if bars:
                logging.enable_progress_bar()
            if not download_bars:
                disable_progress_bars()


def _place(source: BaseSource) -> dict[str, Any]:
    """Where the Auto classes shall look; code that comes with a checkpoint is never run."""
    return {
        "pretrained_model_name_or_path": source.location,
        "revision": source.revision or "main",
        "local_files_only": source.local_files_only,
        "trust_remote_code": False,
    }


def _config(source: BaseSource, num_labels: int, regression: bool) -> PretrainedConfig:
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(**_place(source))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"the config.json of '{source.name}' cannot be used: {first_line(error)}") from error
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ConfigurationError(
            f"'{source.name}' is a model of type '{config.model_type}', of which transformers makes no sequence "
            "classifier; choose a text encoder or decoder"
        )
    # Set afterwards, as a saved classifier's own task may contradict ours halfway.
    config.problem_type = "regression" if regression else "single_label_classification"
    config.num_labels = num_labels
    return config


def _tokenizer(source: BaseSource) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    remedy = (
        "save the tokenizer into the same folder (tokenizer.save_pretrained), or install sentencepiece if it needs that"
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(**_place(source))
    except Exception as error:  # the tokenizers' own errors have no narrower type than Exception
        raise ConfigurationError(
            f"the tokenizer of '{source.name}' cannot be used: {first_line(error)}; {remedy}"
        ) from error
    # Without its files transformers makes an empty tokenizer of the right class, which turns every word into [UNK].
    files = [*tokenizer.vocab_files_names.values(), "tokenizer.json"]
    if source.kind != "hub" and not any((Path(source.location) / file).is_file() for file in files):
        raise ConfigurationError(
            f"'{source.name}' has no tokenizer (none of {', '.join(dict.fromkeys(files))}); {remedy}"
        )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ConfigurationError(f"the tokenizer of '{source.name}' knows no word; {remedy}")
    return tokenizer


def _model(
    source: BaseSource, config: PretrainedConfig, *, seed: int, random_init: bool, dtype: torch.dtype
) -> tuple[PreTrainedModel, Mapping[str, Any] | None]:
    """The model, and what transformers says about loading it; None in place of that if nothing was loaded."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    # Everything is drawn on the CPU, whose generator alone is set and restored: torch.manual_seed would reseed the
    # GPUs, too.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        if random_init:
            return AutoModelForSequenceClassification.from_config(config, dtype=dtype), None
        try:
            model, loaded = AutoModelForSequenceClassification.from_pretrained(
                **_place(source),
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are errors below, with a remedy
                adapter_kwargs={"local_files_only": source.local_files_only},  # or it asks the hub for an adapter
            )
        except OSError as error:
            raise UnknownNameError(
                f"the weights of '{source.name}' cannot be read: {first_line(error)}; a base needs model.safetensors"
            ) from error
        except (SafetensorError, RuntimeError, ValueError) as error:
            raise BaseMismatchError(
                f"the weights of '{source.name}' are damaged or not of this model: {first_line(error)}; "
                "fetch them again"
            ) from error
    return model, loaded


def _check_loaded(
    source: BaseSource, parameter_map: ParameterMap, loaded: Mapping[str, Any], allow_new: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Refuse a model with random tensors that nobody asked for; otherwise say what is new and what was not used."""
    missing = set(loaded["missing_keys"])
    unused = tuple(sorted(loaded["unexpected_keys"]))
    mismatched = {name: (tuple(there), tuple(here)) for name, there, here in loaded["mismatched_keys"]}
    head = set(parameter_map.head)

    def unexplained(names: set[str]) -> list[str]:
        return sorted(name for name in names if not any(fnmatchcase(name, pattern) for pattern in allow_new))

    faults = []
    backbone = [name for name in parameter_map.names if name not in head]
    if absent := unexplained(missing - head):
        faults.append(
            f"it lacks {len(absent)} of the {len(backbone)} tensors of the backbone ({_listing(absent)}), "
            "which would be random"
        )
        if len(absent) > len(backbone) // 2 and unused:
            faults.append(
                f"its own are called {_listing(unused)}: save the plain transformers model, not what it is wrapped in"
            )
    if misfits := unexplained(set(mismatched)):
        shapes = [f"{name} is {mismatched[name][0]} there and {mismatched[name][1]} here" for name in misfits]
        what = (
            "has a head of another size"
            if head.issuperset(misfits)
            else "has tensors of other shapes than its config.json"
        )
        faults.append(f"it {what} ({_listing(shapes)})")
    if faults:
        patterns = tuple(dict.fromkeys(f"{name.rpartition('.')[0]}.*" for name in (*absent, *misfits)))
        remedy = f"; if that is meant, pass allow_new={patterns}" if len(patterns) <= 4 else ""
        raise BaseMismatchError(
            f"the checkpoint '{source.name}' does not fill {parameter_map.architecture}: {'; '.join(faults)}{remedy}"
        )
    drawn = missing | set(mismatched)
    return (*(name for name in parameter_map.names if name in drawn), *sorted(drawn - set(parameter_map.names))), unused


def _agree_on_padding(source: BaseSource, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make tokenizer and model use one padding token.

    A decoder's head reads the state of the last token that is not padding, by `config.pad_token_id`.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigurationError(
                f"the tokenizer of '{source.name}' has neither a padding nor an end-of-sequence token; "
                "set its pad_token and save it"
            )
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    rows, highest = model.get_input_embeddings().num_embeddings, max(tokenizer.all_special_ids)
    if highest >= rows:
        raise ConfigurationError(
            f"the tokenizer of '{source.name}' uses id {highest}, but its model has {rows} word embeddings; "
            "tokenizer and model do not belong together"
        )


def _listing(texts: Sequence[str], shown: int = 4) -> str:
    return ", ".join(texts[:shown]) + (f" and {len(texts) - shown} more" if len(texts) > shown else "")
