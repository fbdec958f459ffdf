"""The verbs put together, and what becomes of an error."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer
from typer.main import get_command

from supermask.cli import (
    apply,
    bases,
    compare,
    doctor,
    evaluate,
    export,
    inspect,
    predict,
    push,
    store,
    study,
    tasks,
    train,
)
from supermask.cli.failures import Interruption, describe_failure
from supermask.cli.options import Verb, add_verbs
from supermask.cli.printing import note

__all__ = ["VERBS", "make_command", "run"]

_MODULES = (train, evaluate, predict, inspect, compare, apply, export, push, tasks, bases, doctor)
_NAMES = [module.__name__.rpartition(".")[2] for module in _MODULES]
VERBS: dict[str, Verb] = {
    name: (getattr(module, name), module.EXAMPLES) for name, module in zip(_NAMES, _MODULES, strict=True)
}

EXAMPLES = (
    "supermask train --task probe-sentiment --output sentiment",
    "supermask inspect sentiment",
    'supermask predict sentiment --sentence "a dull story"',
)


@cache
def make_command() -> Any:
    """The command with all its verbs, as click knows it."""
    app = typer.Typer(
        name="supermask",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    add_verbs(app, _before_any_verb, EXAMPLES, VERBS)
    app.add_typer(store.make_group(), name="store")
    app.add_typer(study.make_group(), name="study")
    return get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line, and return the exit code; see `supermask.cli.main.main`."""
    state: dict[str, Any] = {}
    try:
        outcome = make_command().main(args=list(arguments), prog_name="supermask", standalone_mode=False, obj=state)
        if outcome == Interruption.exit_code:  # typer turns Ctrl-C into an exit code by itself
            raise Interruption("nothing is left half written")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except (Exception, KeyboardInterrupt) as error:
        failure = describe_failure(error)
        if state.get("debug") and not isinstance(error, Interruption):
            for line in "".join(traceback.format_exception(error)).splitlines():
                note(line)
        # Of processes that train together all meet what the person can mend; one tells.
        if failure.exit_code != 2 or os.environ.get("RANK", "0") == "0":
            note(failure.line)
        return failure.exit_code
    return outcome if isinstance(outcome, int) else 0


def _print_version(asked: bool) -> None:
    if asked:
        from supermask import __version__

        print(f"supermask {__version__}")
        raise typer.Exit


def _before_any_verb(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar="SUPERMASK_DEBUG", metavar="", help="Show the whole traceback of an error."),
    ] = False,
) -> None:
    """Teach a pretrained language model a task by switching weights off.

    A task is learnt by `train` and kept as a task delta, a small exact file.
    With the base and that file, `predict` gives the same predictions again.
    """
    context.obj["debug"] = debug
    if context.invoked_subcommand is None:
        print(context.get_help())
