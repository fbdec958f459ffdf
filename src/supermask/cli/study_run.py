"""`supermask study run`: make the runs of a study."""

from __future__ import annotations

import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from supermask.cli.failures import Interruption
from supermask.cli.options import AsJson, Cpu, DataDir
from supermask.cli.study_options import Base, Results, Seeds, StudyName, Tasks, chosen_studies, results_folder

if TYPE_CHECKING:
    from supermask.study import Study
    from supermask.study.progress import Reporter
    from supermask.study.runner import Prepared, StudyReport

__all__ = ["EXAMPLES", "run"]

EXAMPLES = (
    "supermask study run table5 --data-dir glue",
    "supermask study run all --data-dir glue --tasks mrpc,rte --seeds 0-2",
    "supermask study run table6 --data-dir glue --dry-run",
    "supermask study run all --smoke",
)


def _where(name: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(name, help=help, metavar=metavar, rich_help_panel="Where and how", show_default=False)


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
        Path | None, _where("--work", "Where runs keep what they resume from. \\[default: RESULTS/.work]", "DIR")
    ] = None,
    keep_deltas: Annotated[
        Literal["masks", "all", "none"],
        typer.Option("--keep-deltas", help="Which deltas stay beside their records.", rich_help_panel="Where and how"),
    ] = "masks",
    jobs: Annotated[int | None, _where("--jobs", "Runs at a time. \\[default: one a device]", "N")] = None,
    devices: Annotated[
        str | None, _where("--devices", "CUDA devices to use, such as 0,1. \\[default: all]", "NAMES")
    ] = None,
    ray: Annotated[
        str | None, _where("--ray", "Run on the Ray cluster of this address; local starts one here.", "ADDRESS")
    ] = None,
    launch: Annotated[
        str | None,
        _where("--launch", 'Starts each run, such as "accelerate launch --num_processes 4".', "COMMAND"),
    ] = None,
    checkpoint_steps: Annotated[
        int,
        typer.Option(
            "--checkpoint-steps", min=1, metavar="N", help="Steps between checkpoints.", rich_help_panel="Where and how"
        ),
    ] = 100,
    any_version: Annotated[
        bool, _where("--any-version", "Take records of other versions of supermask, too.", "")
    ] = False,
    cpu: Cpu = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Check everything and tell what would be run.")
    ] = False,
    smoke: Annotated[
        bool,
        typer.Option("--smoke", metavar="", help="Try all parts on a tiny model and probes; the numbers mean nothing."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the runs of a study that are not recorded yet.

    Base, data and folders are checked first. What is cut off goes on where it
    stopped when the command is given again; what fails is recorded, tried
    again the next time, and makes the exit code 1.
    """
    from supermask.errors import ConfigurationError
    from supermask.study.runner import RunSettings, prepare, run_prepared

    studies = chosen_studies(study, base=base, tasks=tasks, seeds=seeds)
    if smoke:
        if dry_run:
            raise ConfigurationError("--smoke runs in a minute what --dry-run only tells; leave one of the two out")
        _smoke(studies, results, as_json=as_json)
        return
    settings = RunSettings(
        results=results_folder(results, studies, limit),
        work=work,
        data_dir=None if data_dir is None else str(data_dir),
        limit=limit,
        jobs=jobs,
        devices=tuple(part for part in (devices or "").replace(",", " ").split()),
        keep_deltas=keep_deltas,
        launch=tuple(shlex.split(launch or "")),
        ray=ray,
        checkpoint_steps=checkpoint_steps,
        any_version=any_version,
        use_cpu=cpu,
    )
    prepared = prepare(studies, settings)
    if dry_run:
        _tell_plan(prepared, as_json=as_json)
        return
    try:
        report = run_prepared(prepared, _reporter())
    except KeyboardInterrupt:
        raise Interruption("nothing is lost; go on with the same command") from None
    _tell_report(prepared, report, as_json=as_json)


def _smoke(studies: list[Study], results: Path | None, *, as_json: bool) -> None:
    from supermask.cli.printing import note
    from supermask.study.smoke import run_smoke, show_smoke

    with ExitStack() as stack:
        folder = results or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepared, report = run_smoke(studies, folder, _reporter())
        shown = show_smoke(prepared, folder)
        where = f"in {folder}" if results is not None else "and thrown away; --results keeps them"
        note(f"{len(shown)} files of tables, figures and a report were made {where}")
        _tell_report(prepared, report, as_json=as_json)


def _reporter() -> Reporter:
    from supermask.study.live_progress import LiveReporter
    from supermask.study.progress import PlainReporter

    return LiveReporter() if sys.stderr.isatty() else PlainReporter()


def _tell_plan(prepared: Prepared, *, as_json: bool) -> None:
    from supermask.cli.printing import plain_table, print_json, print_lines, show
    from supermask.study.estimates import shown_duration
    from supermask.study.progress import status_in_words
    from supermask.study.runner import make_executor

    plan = prepared.plan
    if as_json:
        print_json(
            {
                "results": str(prepared.settings.results),
                "base": prepared.inputs.fingerprint,
                "notes": prepared.inputs.notes,
                "runs": [
                    {
                        "run": one.order.name,
                        "state": one.state,
                        "address": one.order.address,
                        "record": one.stored.path if one.stored is not None else one.order.target,
                        "steps": one.steps,
                        "seconds": one.seconds,
                    }
                    for one in plan.runs
                ],
            }
        )
        return
    print_lines([f"note: {line}" for line in prepared.inputs.notes])
    table = plain_table("run", "state", "steps", "time", right=("steps", "time"))
    for one in plan.to_do:
        table.add_row(one.order.name, one.state, f"{one.steps:,}", shown_duration(one.seconds))
    if plan.to_do:
        show(table)
    slots = 1 if prepared.settings.ray is not None else make_executor(prepared.settings).slots
    print_lines(
        [
            f"{len(plan.runs)} runs in {prepared.settings.results}: {status_in_words(plan)}",
            f"time for the rest, {slots} at a time: {shown_duration(plan.seconds_left(slots))}",
        ]
    )


def _tell_report(prepared: Prepared, report: StudyReport, *, as_json: bool) -> None:
    from supermask.cli.printing import note, print_json, print_lines, printable

    runs = report.runs
    if as_json:
        print_json(
            {
                "results": str(prepared.settings.results),
                "recorded_before": len(prepared.plan.of("recorded")),
                "completed": [one.order.name for one in runs.completed],
                "failed": [{"run": one.order.name, "error": error} for one, error in runs.failed],
                "measured": report.measured.runs,
                "pairs": report.measured.pairs,
                "not_measured": report.measured.faults,
                "notes": prepared.inputs.notes,
            }
        )
    else:
        before = len(prepared.plan.of("recorded"))
        print_lines([f"note: {line}" for line in prepared.inputs.notes])
        print_lines([f"{prepared.settings.results}: {len(runs.completed)} runs made, {before} recorded before"])
    for one, error in runs.failed:
        note(f"failed: {one.order.name}: {printable(error)} (log: {one.order.log_path})")
    if runs.failed:
        raise typer.Exit(1)
