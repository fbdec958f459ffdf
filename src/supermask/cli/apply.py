"""`supermask apply`: merge a delta into its base."""

from __future__ import annotations

from supermask.cli import options
from supermask.cli.export import OutputFolder, export

__all__ = ["EXAMPLES", "apply"]

EXAMPLES = (
    "supermask apply sentiment --output sentiment-model",
    "supermask apply mine --base path/to/base --output mine-model --json",
)


def apply(
    delta: options.DeltaPath,
    output: OutputFolder,
    base: options.StoredBase = None,
    revision: options.Revision = None,
    allow_new: options.AllowNew = None,
    as_json: options.AsJson = False,
) -> None:
    """Merge a stored delta into its base, as a plain Hugging Face checkpoint.

    The folder holds configuration, weights and tokenizer, ready for
    AutoModelForSequenceClassification.from_pretrained.
    It appears whole or not at all. `supermask export` writes other forms, too.
    """
    export(delta, output, base=base, revision=revision, allow_new=allow_new, as_json=as_json)
