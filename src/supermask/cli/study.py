"""`supermask study`: the paper's tables and figures, run and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from supermask.cli import study_measure, study_run, study_show, study_status
from supermask.cli.printing import examples_text

__all__ = ["EXAMPLES", "VERBS", "make_group"]

EXAMPLES = (
    "supermask study list",
    "supermask study run table5 --data-dir glue --tasks mrpc",
    "supermask study status",
)

VERBS: dict[str, tuple[Callable[..., None], Sequence[str]]] = {
    "list": (study_status.list_studies, study_status.LIST_EXAMPLES),
    "run": (study_run.run, study_run.EXAMPLES),
    "status": (study_status.status, study_status.EXAMPLES),
    "measure": (study_measure.measure, study_measure.EXAMPLES),
    "table": (study_show.table, study_show.TABLE_EXAMPLES),
    "figure": (study_show.figure, study_show.FIGURE_EXAMPLES),
    "report": (study_show.report, study_show.REPORT_EXAMPLES),
}
"""What can be done with studies: each verb's function, and the examples that its help ends with."""


def make_group() -> typer.Typer:
    """The verbs of `supermask study`."""
    group = typer.Typer(rich_markup_mode="rich")
    group.callback(invoke_without_command=True, epilog=examples_text(EXAMPLES))(_study)
    for name, (function, examples) in VERBS.items():
        group.command(name, epilog=examples_text(examples))(function)
    return group


def _study(context: typer.Context) -> None:
    """Reproduce the paper: each of its tables and figures is a study.

    A study is many runs; what is recorded already is not run again, and a run
    that was cut off goes on where it stopped.
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
