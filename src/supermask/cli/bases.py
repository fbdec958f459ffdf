"""`supermask bases`: the pretrained models that are known by a short name."""

from __future__ import annotations

from supermask.cli.options import AsJson
from supermask.cli.printing import answer, plain_table

__all__ = ["EXAMPLES", "bases"]

EXAMPLES = ("supermask bases", "supermask bases --json")


def bases(as_json: AsJson = False) -> None:
    """List the bases that are known by name, and how to get them.

    Any saved model's folder and any hub id will do as well.
    """
    from dataclasses import asdict

    from supermask.models import DEFAULT_BASE, known_bases

    known = known_bases()
    table = plain_table("base", "type", ">blocks", ">width", ">parameters", "licence", "installed")
    told = []
    for base in known:
        sizes = (str(base.blocks), str(base.hidden_size), f"{base.parameters / 1e6:.1f} M")
        table.add_row(base.name, base.architecture, *sizes, base.license, "yes" if base.installed else "no")
        told.append(f"{base.name}{', the default' if base.name == DEFAULT_BASE else ''}: {base.description}")
        told += [] if base.installed else [f"  to get it: {base.install}"]
    others = "Others: --base FOLDER of a saved model, or --base HUB_ID, such as bert-base-uncased"
    document = {"default": DEFAULT_BASE, "bases": [asdict(base) for base in known]}
    answer(document, [table, *told, others], as_json=as_json)
