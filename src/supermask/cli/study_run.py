"""`supermask study run`: make the runs of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from supermask.cli.failures import Interruption
from supermask.cli.options import AsJson, Cpu, DataDir, option
from supermask.cli.printing import PlainTable, answer, note, plain_table
from supermask.cli.study_options import Base, Results, Seeds, StudyName, Tasks, chosen_studies
from supermask.cli.train_options import setting_option, with_options
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


@with_options(setting_option("Where and how", name, RunSettings.model_fields[name]) for name in _HERE)
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
    dry_run: Annotated[bool, option(None, "", "Check everything and tell what would be run.")] = False,
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
    answer(document, _in_words(document), as_json=as_json)
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


def _in_words(document: dict[str, Any]) -> Iterator[str | PlainTable]:
    from supermask.study.pace import shown_duration

    notes = [f"note: {line}" for line in document["notes"]]
    if "completed" in document:
        before = document["recorded_before"]
        yield from notes
        yield f"{document['results']}: {len(document['completed'])} runs made, {before} recorded before"
        return
    runs = document["runs"]
    left = [run for run in runs if run["state"] != "recorded"]
    rows = ((run["run"], run["state"], f"{run['steps']:,}", shown_duration(run["seconds"])) for run in left)
    yield from [plain_table("run", "state", ">steps", ">time", rows=rows)] if left else []
    yield from notes
    counts = ", ".join(f"{count} {state}" for state, count in Counter(run["state"] for run in runs).items())
    yield f"{len(runs)} runs in {document['results']}: {counts}"
    yield f"time for the rest, {document['slots']} at a time: {shown_duration(document['seconds_left'])}"
