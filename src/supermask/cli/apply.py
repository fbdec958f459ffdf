"""`supermask apply`: merge a delta into its base."""

from __future__ import annotations

from supermask.cli.export import OutputFolder, write_model
from supermask.cli.options import AllowNew, AsJson, DeltaPath, Revision, StoredBase

__all__ = ["EXAMPLES", "apply"]

EXAMPLES = (
    "supermask apply sentiment --output sentiment-model",
    "supermask apply mine --base path/to/base --output mine-model --json",
)


def apply(
    delta: DeltaPath,
    output: OutputFolder,
    base: StoredBase = None,
    revision: Revision = None,
    allow_new: AllowNew = None,
    as_json: AsJson = False,
) -> None:
    """Merge a stored delta into its base, as a plain Hugging Face checkpoint.

    The folder holds configuration, weights and tokenizer, ready for
    AutoModelForSequenceClassification.from_pretrained.
    It appears whole or not at all. `supermask export` writes other forms, too.
    """
    write_model("checkpoint", delta, output, base, revision, allow_new, as_json=as_json)
