"""`supermask bases`: the pretrained models that are known by a short name."""

from __future__ import annotations

from supermask.cli.options import AsJson

__all__ = ["EXAMPLES", "bases"]

EXAMPLES = ("supermask bases", "supermask bases --json")


def bases(as_json: AsJson = False) -> None:
    """List the bases that are known by name, and how to get them.

    Any saved model's folder and any hub id will do as well.
    """
    from dataclasses import asdict

    from supermask.cli.printing import plain_table, print_json, print_lines, show
    from supermask.models import DEFAULT_BASE, known_bases

    known = known_bases()
    if as_json:
        print_json({"default": DEFAULT_BASE, "bases": [asdict(base) for base in known]})
        return
    numbers = ("blocks", "width", "parameters")
    table = plain_table("base", "type", *numbers, "licence", "installed", right=numbers)
    for base in known:
        size = f"{base.parameters / 1e6:.1f} M"
        installed = "yes" if base.installed else "no"
        table.add_row(
            base.name, base.architecture, str(base.blocks), str(base.hidden_size), size, base.license, installed
        )
    show(table)
    for base in known:
        default = ", the default" if base.name == DEFAULT_BASE else ""
        print_lines([f"{base.name}{default}: {base.description}"])
        if not base.installed:
            print_lines([f"  to get it: {base.install}"])
    print_lines(["Others: --base FOLDER of a saved model, or --base HUB_ID, such as bert-base-uncased"])
