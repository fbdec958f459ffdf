"""`supermask apply`: merge a delta into its base."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from supermask.cli.options import AllowNew, AsJson, DeltaPath, Revision, StoredBase

__all__ = ["EXAMPLES", "apply"]

EXAMPLES = (
    "supermask apply sentiment --output sentiment-model",
    "supermask apply mine --base path/to/base --output mine-model --json",
)


def apply(
    delta: DeltaPath,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            metavar="DIR",
            help="New folder for the checkpoint.",
            show_default=False,
            rich_help_panel="Output",
        ),
    ],
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
    import supermask
    from supermask.cli.printing import print_json, print_lines, shown_bytes
    from supermask.cli.stored import delta_path, stored_base
    from supermask.interop import check_new_folder, save_checkpoint

    check_new_folder(output)
    stored = supermask.TaskDelta.load(delta_path(delta))
    loaded = stored_base(stored.document, base, revision, allow_new)
    save_checkpoint(loaded, stored, output)
    files = {path.name: path.stat().st_size for path in sorted(output.iterdir())}
    if as_json:
        print_json(
            {"output": str(output), "task": stored.task.model_dump(mode="json"), "delta": stored.digest, "files": files}
        )
        return
    print_lines(
        [
            f"{stored.task.name or 'the task'} merged into {stored.document.base.name}: {output}/",
            *(f"  {name}  {shown_bytes(size)}" for name, size in files.items()),
            "load it with AutoModelForSequenceClassification.from_pretrained and AutoTokenizer.from_pretrained",
        ]
    )
