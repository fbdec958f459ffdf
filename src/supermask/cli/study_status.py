"""`supermask study list` and `supermask study status`: which studies there are, and where they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from supermask.cli.options import AsJson
from supermask.cli.study_options import ALL, Base, Results, Seeds, Tasks, chosen_studies, results_folder

if TYPE_CHECKING:
    from supermask.study.records import RecordStore
    from supermask.study.status import StudyStatus

__all__ = ["EXAMPLES", "LIST_EXAMPLES", "list_studies", "status"]

LIST_EXAMPLES = ("supermask study list", "supermask study list --json")
EXAMPLES = ("supermask study status", "supermask study status table5", "supermask study status table3 --seeds 0-2")


def list_studies(as_json: AsJson = False) -> None:
    """List the studies: what each shows, on how many tasks, with how many runs.

    Runs that several studies need are made once.
    """
    from supermask.cli.printing import plain_table, print_json, print_lines, show
    from supermask.study import load_study, runs_of, study_names
    from supermask.study.expansion import shared_runs

    studies = [load_study(name) for name in study_names()]
    if as_json:
        print_json({"studies": [{**study.model_dump(mode="json"), "runs": len(runs_of(study))} for study in studies]})
        return
    table = plain_table("study", "shows", "what", "tasks", "runs", right=("tasks", "runs"))
    for study in studies:
        table.add_row(
            study.name, study.shows, f"{study.title} ({study.paper})", str(len(study.tasks)), str(len(runs_of(study)))
        )
    show(table)
    print_lines([f"{len(shared_runs(studies))} different runs in all; Figure 1 of the paper is an illustration"])


def status(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="Name of a study, all, or a YAML file of your own.")
    ] = ALL,
    base: Base = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    results: Results = None,
    as_json: AsJson = False,
) -> None:
    """Tell what is recorded, running, failed and missing of a study, or of all.

    Nothing is loaded or run. The time is for one run after the other, from
    recorded runs of the same base.
    """
    from supermask.cli.printing import print_json
    from supermask.study.records import RecordStore
    from supermask.study.status import study_status

    studies = chosen_studies(study, base=base, tasks=tasks, seeds=seeds)
    folder = results_folder(results, studies)
    store = RecordStore(folder)
    found = study_status(studies, store)
    if as_json:
        print_json(_document(found, store, folder))
    else:
        _print(found, store, folder)


def _print(found: list[StudyStatus], store: RecordStore, folder: Path) -> None:
    from supermask.cli.printing import note, plain_table, print_lines, printable, show
    from supermask.study.estimates import shown_duration

    for skipped in store.skipped:
        note(f"warning: {folder / skipped.path} is no record and plays no part: {printable(skipped.reason)}")
    table = plain_table(
        "study", "recorded", "measured", "running", "failed", "missing", "time for the rest",
        right=("recorded", "measured", "running", "failed", "missing", "time for the rest"),
    )  # fmt: skip
    for one in found:
        recorded = one.of("recorded")
        counts = [len(one.of(state)) for state in ("running", "failed", "missing")]
        table.add_row(
            one.study.name,
            f"{len(recorded)} of {len(one.runs)}",
            str(sum(run.measured for run in recorded)),
            *(str(count) if count else "" for count in counts),
            "" if len(recorded) == len(one.runs) else shown_duration(one.seconds_left),
        )
    print_lines([f"{folder}: {len(store.records)} records"])
    show(table)
    seen: set[str] = set()
    for run in (run for one in found for run in one.runs):
        if run.run.key in seen or run.state in ("recorded", "missing"):
            continue
        seen.add(run.run.key)
        what = printable(run.error or run.position or "")
        print_lines([f"{run.state}: {run.run.task}/{run.run.label}: {what}"])
    if len(found) == 1:
        missing = [f"{run.run.task}/{run.run.label}" for run in found[0].of("missing")]
        print_lines([f"missing: {', '.join(missing)}"] if missing else [])


def _document(found: list[StudyStatus], store: RecordStore, folder: Path) -> dict[str, object]:
    return {
        "results": str(folder),
        "records": len(store.records),
        "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in store.skipped],
        "studies": [
            {
                "name": one.study.name,
                "base": one.study.base,
                "seconds_left": one.seconds_left,
                "runs": [
                    {
                        "task": run.run.task,
                        "arm": run.run.arm,
                        "seed": run.run.seed,
                        "state": run.state,
                        "path": run.path,
                        "measured": run.measured,
                        "error": run.error,
                        "position": run.position,
                        "seconds": run.seconds,
                    }
                    for run in one.runs
                ],
            }
            for one in found
        ],
    }
