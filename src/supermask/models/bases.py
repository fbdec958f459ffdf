"""Load a pretrained base with a fresh task head, and say exactly what was loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

from supermask.errors import ConfigurationError
from supermask.models.embedded import DEFAULT_BASE, KnownBase, known_bases
from supermask.models.loading import load
from supermask.models.sources import find_source

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["DEFAULT_BASE", "Base", "KnownBase", "known_bases", "load_base"]

_DTYPES = ("float32", "float16", "bfloat16")


@final
@dataclass(frozen=True)
class Base:
    """A pretrained model with a task head, its tokenizer, and where both came from.

    Args:
        model: A sequence classifier in evaluation mode, on the CPU.
        tokenizer: The tokenizer saved beside it; it has a padding token.
        name: What the user called it.
        revision: The commit hash it was loaded at; None where it is not from the hub.
        source: Whether it was embedded in a package, in a local folder, or on the hub.
        new: Parameters that are not from the checkpoint but freshly drawn (the head as a rule; all of them with
            `random_init`).
        unused: Tensors of the checkpoint that the classifier has no place for (as a rule a language model's head).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None
    source: Literal["embedded", "folder", "hub"]
    new: tuple[str, ...]
    unused: tuple[str, ...]


def load_base(
    name_or_path: str | Path = DEFAULT_BASE,
    *,
    num_labels: int,
    regression: bool = False,
    revision: str | None = None,
    seed: int = 0,
    random_init: bool = False,
    dtype: str | torch.dtype = "float32",
    allow_new: Sequence[str] = (),
) -> Base:
    """Load a base with a task head for sequence classification or regression.

    The head is drawn from `seed` and from nothing else; the global random state is left as it was. Nothing is drawn
    silently in the backbone: if the checkpoint lacks one of its tensors, or has it in another shape, that is an error,
    as is a head of another size, unless `allow_new` names the tensor. What was drawn is listed in `Base.new`.

    Args:
        name_or_path: The name of a known base, a local folder as `save_pretrained` writes it, or a hub id.
        num_labels: Outputs of the head: the number of classes (at least 2), or 1 for regression.
        regression: Whether the head predicts a number.
        revision: Branch, tag or commit of a hub id; it is resolved to a commit, which is recorded.
        seed: Seed of everything that is drawn.
        random_init: Draw all weights: the same architecture without its pretraining, for control runs.
        dtype: Type of the weights: float32, float16 or bfloat16.
        allow_new: Patterns over parameter names that may be drawn although the checkpoint lacks them or has them in
            another shape, e.g. `bert.pooler.*`.

    Returns:
        The model, its tokenizer, and their provenance.

    Raises:
        UnknownNameError: If there is no such base, or the hub cannot be reached.
        MissingDependencyError: If transformers, or the package of an embedded base, is not installed.
        BaseMismatchError: If the weights are not those recorded, are unreadable, or do not fill the model.
        SelectionError: If a pattern of `allow_new` matches nothing.
        ConfigurationError: If an argument is out of range or the folder's configuration or tokenizer is unusable.

    >>> base = load_base("minilm-l6", num_labels=3)  # doctest: +SKIP
    >>> base.source, base.new  # doctest: +SKIP
    ('embedded', ('classifier.weight', 'classifier.bias'))
    >>> load_base("minilm-l7", num_labels=3)
    Traceback (most recent call last):
    supermask.errors.UnknownNameError: there is no base 'minilm-l7'; did you mean minilm-l6? Otherwise pass ...
    """
    torch_dtype = _validated(num_labels, regression, seed, dtype)
    source = find_source(name_or_path, revision)
    model, tokenizer, new, unused = load(
        source,
        num_labels=num_labels,
        regression=regression,
        seed=seed,
        random_init=random_init,
        dtype=torch_dtype,
        allow_new=allow_new,
    )
    return Base(model, tokenizer, source.name, source.revision, source.kind, new, unused)


def _validated(num_labels: int, regression: bool, seed: int, dtype: str | torch.dtype) -> torch.dtype:
    import torch

    faults = []
    if regression and num_labels != 1:
        faults.append(f"regression has one output, but num_labels={num_labels}; give num_labels=1")
    if not regression and num_labels < 2:
        faults.append(f"num_labels={num_labels}, but classes number at least 2; to learn a number, say regression=True")
    if not 0 <= seed < 2**63:
        faults.append(f"seed={seed} is outside 0 to 2**63 - 1")
    by_name = {name: getattr(torch, name) for name in _DTYPES}
    chosen = by_name.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in by_name.values():
        faults.append(f"dtype={dtype} is none of {', '.join(_DTYPES)}")
    if faults or chosen is None:
        raise ConfigurationError("; ".join(faults))
    return chosen
