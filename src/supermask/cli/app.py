"""The verbs put together, and what becomes of an error."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from functools import cache, cached_property
from importlib import import_module
from typing import Annotated, Any, Final, final

import typer
from typer.core import TyperCommand
from typer.main import get_command

from supermask.cli.failures import Interruption, describe_failure
from supermask.cli.options import named
from supermask.cli.printing import examples_text, note

__all__ = ["VERBS", "make_command", "run"]

VERBS: Final = {
    "train": "Learn a task on a base and save the task delta.",
    "evaluate": "Score a stored delta on labelled examples.",
    "predict": "Predict with a stored delta.",
    "inspect": "Show what a stored delta holds, with its zeros by role and block.",
    "compare": "Show what moved between two models, and how far, by role and by block.",
    "apply": "Merge a stored delta into its base, as a plain Hugging Face checkpoint.",
    "export": "Merge a stored delta into its base and write the model for other programs.",
    "push": "Push a delta to the hub, with a model card made from what it says.",
    "tasks": "List the tasks that are known by name.",
    "bases": "List the bases that are known by name, and how to get them.",
    "doctor": "Show versions, devices and kernels, and check that kernels agree.",
    "store": "Keep many deltas over one base in a folder: add, list, verify, compare.",
    "study": "Reproduce the paper: each of its tables and figures is a study.",
}
"""Each verb, which has a module of its name, and the first line of its help, so that listing them imports none."""

EXAMPLES = (
    "supermask train --task probe-sentiment --output sentiment",
    "supermask inspect sentiment",
    'supermask predict sentiment --sentence "a dull story"',
)


@final
class LazyVerb(TyperCommand):
    """A verb, or a group of verbs, whose module is imported when it is chosen."""

    @cached_property
    def real(self) -> Any:
        """The command that it stands for."""
        module: Any = import_module(f"supermask.cli.{self.name}")
        app = typer.Typer(rich_markup_mode="rich", add_completion=False)
        if group := getattr(module, "VERBS", None):
            app.callback(invoke_without_command=True, help=module.ABOUT, epilog=examples_text(module.EXAMPLES))(_alone)
        alone = {} if group else {self.name: (getattr(module, self.name or ""), module.EXAMPLES)}
        for name, (verb, examples) in (group or alone).items():
            app.command(name, epilog=examples_text(examples))(named(verb))
        return get_command(app)

    def make_context(self, *given: Any, **settings: Any) -> Any:
        """As in typer, of the command that it stands for."""
        return self.real.make_context(*given, **settings)


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
    app.callback(invoke_without_command=True, epilog=examples_text(EXAMPLES))(_before_any_verb)
    for name, line in VERBS.items():
        app.command(name, cls=LazyVerb, help=line)(lambda: None)
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
    _alone(context)


def _alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
