"""`supermask compare`: how far two checkpoints, or a base and its deltas, are apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from supermask.cli.options import AllowNew, AsJson, Revision, argument, option, refuse_together
from supermask.errors import ConfigurationError

__all__ = ["EXAMPLES", "compare"]

EXAMPLES = (
    "supermask compare google-bert/bert-base-uncased my-finetuned-bert",
    "supermask compare minilm-l6 merged --csv distances.csv",
    "supermask compare minilm-l6 runs/mrpc",
    "supermask compare runs/mrpc runs/rte --json",
)

_MODEL = "Folder, safetensors file or hub id of a model; a known base; or a delta."
_BASE = "With two deltas: where their base is now. \\[default: what the first names]"


def compare(
    base: Annotated[str, argument("BASE", _MODEL)],
    finetuned: Annotated[str, argument("FINETUNED", "The model made of it; or a delta.")],
    base_of_deltas: Annotated[str | None, option(None, "NAME_OR_DIR", _BASE, name="--base")] = None,
    revision: Revision = None,
    finetuned_revision: Annotated[str | None, option("Base", "REV", "The same of FINETUNED.")] = None,
    allow_new: AllowNew = None,
    csv: Annotated[Path | None, option(None, "FILE", "Write the distance of every tensor, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what moved between two models, and how far, by role and by block.

    Two ordinary Hugging Face checkpoints of one architecture are read tensor by
    tensor; heads may differ, and tokenizers play no part. A base and a delta of
    it, or two deltas of one base, are compared in the same way, with their
    zeros. What two independent random initialisations would give stands beside.
    """
    from supermask.cli.compare_report import compare_deltas, compare_models, is_delta

    first, second = (is_delta(given) for given in (base, finetuned))
    if first and not second:
        raise ConfigurationError(
            f"{base} is a delta and {finetuned} a model; put the base first: supermask compare {finetuned} {base}"
        )
    if not second:
        refuse_together("two models", {"--base": base_of_deltas, "--allow-new": allow_new})
        compare_models(base, revision, finetuned, finetuned_revision, table=csv, as_json=as_json)
    else:
        if not first:
            refuse_together("a base that stands first", {"--base": base_of_deltas})
        refuse_together("a delta", {"--finetuned-revision": finetuned_revision})
        deltas, place = ([base, finetuned], base_of_deltas) if first else ([finetuned], base)
        compare_deltas(deltas, place, revision, allow_new, table=csv, as_json=as_json)
