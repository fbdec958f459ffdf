"""`supermask study run`: make the runs of a study."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from supermask.cli.failures import Interruption
from supermask.cli.options import AsJson, Cpu, DataDir, option
from supermask.cli.printing import note, plain_table, print_json, print_lines, show
from supermask.cli.study_options import Base, Results, Seeds, StudyName, Tasks, chosen_studies

if TYPE_CHECKING:
    from supermask.study.execution import StudyReport
    from supermask.study.plan import Plan

__all__ = ["EXAMPLES", "run"]

EXAMPLES = (
    "supermask study run table5 --data-dir glue",
    "supermask study run all --data-dir glue --tasks mrpc,rte --seeds 0-2",
    "supermask study run table6 --data-dir glue --dry-run",
)

_where = partial(option, "Where and how")


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
    work: Annotated[
        Path | None, _where("DIR", "Where runs keep what they resume from. \\[default: RESULTS/.work]")
    ] = None,
    keep_deltas: Annotated[
        Literal["masks", "all", "none"], _where(None, "Which deltas stay beside their records.")
    ] = "masks",
    jobs: Annotated[int | None, _where("N", "Runs at a time. \\[default: one a device]")] = None,
    devices: Annotated[str | None, _where("NAMES", "CUDA devices to use, such as 0,1. \\[default: all]")] = None,
    ray: Annotated[
        str | None, _where("ADDRESS", "Run on the Ray cluster of this address; local starts one here.")
    ] = None,
    launch: Annotated[
        str | None, _where("COMMAND", 'Starts each run, such as "accelerate launch --num_processes 4".')
    ] = None,
    checkpoint_steps: Annotated[int, _where("N", "Steps between checkpoints.")] = 100,
    any_version: Annotated[bool, _where("", "Take records of other versions of supermask, too.")] = False,
    cpu: Cpu = False,
    dry_run: Annotated[bool, option(None, "", "Check everything and tell what would be run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the runs of a study that are not recorded yet.

    Base, data and folders are checked first. What is cut off goes on where it
    stopped when the command is given again; what fails is recorded, tried
    again the next time, and makes the exit code 1.
    """
    from supermask.study.execution import run_plan
    from supermask.study.orders import RunSettings
    from supermask.study.plan import plan_studies
    from supermask.study.progress import StudyProgress

    studies, folder = chosen_studies(study, base=base, tasks=tasks, seeds=seeds, results=results, limit=limit)
    settings = RunSettings(
        results=folder,
        work=work,
        data_dir=None if data_dir is None else str(data_dir),
        limit=limit,
        jobs=jobs,
        devices=tuple((devices or "").replace(",", " ").split()),
        keep_deltas=keep_deltas,
        launch=tuple(shlex.split(launch or "")),
        ray=ray,
        checkpoint_steps=checkpoint_steps,
        any_version=any_version,
        use_cpu=cpu,
    )
    plan = plan_studies(studies, settings)
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
            table = plain_table("run", "state", ">steps", ">time")
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
        "slots": plan.slots,
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
