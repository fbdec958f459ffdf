"""`supermask study run`: make the runs of a study."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supermask.cli.failures import Interruption
from supermask.cli.options import AsJson, Cpu, DataDir, option
from supermask.cli.printing import note, plain_table, print_json, print_lines, show
from supermask.cli.study_options import Base, Results, Seeds, StudyName, Tasks, chosen_studies
from supermask.cli.train_options import setting_option
from supermask.settings import RunSettings

if TYPE_CHECKING:
    from supermask.study.execution import StudyReport
    from supermask.study.plan import Plan

__all__ = ["EXAMPLES", "run"]

EXAMPLES = (
    "supermask study run table5 --data-dir glue",
    "supermask study run all --data-dir glue --tasks mrpc,rte --seeds 0-2",
    "supermask study run table6 --data-dir glue --dry-run",
)

# The others are options that verbs share, or none.
_HERE = ("work", "keep_deltas", "jobs", "devices", "ray", "launch", "checkpoint_steps", "any_version")


def _with_settings(verb: Callable[..., None]) -> Callable[..., None]:
    own = inspect.signature(verb, eval_str=True)
    named = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    made = [setting_option("Where and how", name, RunSettings.model_fields[name]) for name in _HERE]
    verb.__signature__ = own.replace(parameters=[*named, *made])  # type: ignore[attr-defined]
    return verb


@_with_settings
def run(
    study: StudyName,
    data_dir: DataDir = None,
    base: Base = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help="Train on the first N examples; the records say so."),
    ] = None,
    results: Results = None,
    cpu: Cpu = False,
    dry_run: Annotated[bool, option(None, "--dry-run", "", "Check everything and tell what would be run.")] = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Make the runs of a study that are not recorded yet.

    Base, data and folders are checked first. What is cut off goes on where it
    stopped when the command is given again; what fails is recorded, tried
    again the next time, and makes the exit code 1.
    """
    from supermask.study.execution import run_plan
    from supermask.study.plan import plan_studies
    from supermask.study.progress import StudyProgress

    studies, folder = chosen_studies(study, base=base, tasks=tasks, seeds=seeds, results=results, limit=limit)
    told = {name: value for name, value in settings.items() if value is not None}
    where = {"results": folder, "data_dir": None if data_dir is None else str(data_dir), "limit": limit, "use_cpu": cpu}
    chosen = RunSettings(**where, **told)
    plan = plan_studies(studies, chosen)
    try:
        report = None if dry_run else run_plan(plan, StudyProgress())
    except KeyboardInterrupt:
        raise Interruption("nothing is lost; go on with the same command") from None
    document = _plan_document(plan) if report is None else _report_document(plan, report)
    rows, lines = _in_words(document)
    if as_json:
        print_json(document)
    else:
        if rows:
            table = plain_table("run", "state", "steps", "time", right=("steps", "time"))
            for row in rows:
                table.add_row(*row)
            show(table)
        print_lines(lines)
    failed = document.get("failed", ())
    for run in failed:
        note(f"failed: {run['run']}: {run['error']} (log: {run['log']})")
    if failed:
        raise typer.Exit(1)


def _plan_document(plan: Plan) -> dict[str, Any]:
    return {
        "results": str(plan.settings.results),
        "base": plan.base.fingerprint,
        "notes": plan.notes,
        "slots": len(plan.slots),
        "seconds_left": plan.seconds,
        "runs": [
            {
                "run": one.name,
                "state": one.state,
                "address": one.address,
                "record": one.target,
                "steps": one.steps,
                "seconds": one.seconds,
            }
            for one in plan.runs
        ],
    }


def _report_document(plan: Plan, report: StudyReport) -> dict[str, Any]:
    return {
        "results": str(plan.settings.results),
        "recorded_before": len(plan.runs) - len(plan.orders),
        "completed": [order.name for order in report.completed],
        "failed": [{"run": order.name, "error": error, "log": str(order.log_path)} for order, error in report.failed],
        "measured": report.measured.runs,
        "pairs": report.measured.pairs,
        "not_measured": report.measured.faults,
        "notes": plan.notes,
    }


def _in_words(document: dict[str, Any]) -> tuple[list[Sequence[str]], list[str]]:
    """The rows of a table, and lines."""
    from supermask.study.pace import shown_duration

    lines = [f"note: {line}" for line in document["notes"]]
    if "completed" in document:
        before = document["recorded_before"]
        return [], [*lines, f"{document['results']}: {len(document['completed'])} runs made, {before} recorded before"]
    rows: list[Sequence[str]] = [
        (run["run"], run["state"], f"{run['steps']:,}", shown_duration(run["seconds"]))
        for run in document["runs"]
        if run["state"] != "recorded"
    ]
    states = Counter(run["state"] for run in document["runs"])
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    left = shown_duration(document["seconds_left"])
    return rows, [
        *lines,
        f"{len(document['runs'])} runs in {document['results']}: {counts}",
        f"time for the rest, {document['slots']} at a time: {left}",
    ]
