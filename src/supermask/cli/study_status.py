"""`supermask study list` and `supermask study status`: which studies there are, and where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from supermask.cli.options import AsJson
from supermask.cli.printing import PlainTable, answer, note, plain_table
from supermask.cli.study_options import ALL, Base, Results, Seeds, Tasks, chosen_studies

if TYPE_CHECKING:
    from supermask.study import RecordStore, Study
    from supermask.study.plan import RunStatus

__all__ = ["EXAMPLES", "LIST_EXAMPLES", "list_studies", "status", "warn_of_skipped"]

LIST_EXAMPLES = ("supermask study list", "supermask study list --json")
EXAMPLES = ("supermask study status", "supermask study status table5", "supermask study status table3 --seeds 0-2")

_WHICH = typer.Argument(metavar="STUDY", help="Name of a study, all, or a YAML file of your own.")


def list_studies(as_json: AsJson = False) -> None:
    """List the studies: what each shows, on how many tasks, with how many runs.

    Runs that several studies need are made once.
    """
    from supermask.study import load_study, runs_of, study_names
    from supermask.study.expansion import shared_runs

    studies = [load_study(name) for name in study_names()]
    document = {"studies": [{**study.model_dump(mode="json"), "runs": len(runs_of(study))} for study in studies]}
    table = plain_table("study", "shows", "what", ">tasks", ">runs", folds=True)
    for study in studies:
        counts = (str(len(study.tasks)), str(len(runs_of(study))))
        table.add_row(study.name, study.shows, f"{study.title} ({study.paper})", *counts)
    told = f"{len(shared_runs(studies))} different runs in all; Figure 1 of the paper is an illustration"
    answer(document, [table, told], as_json=as_json)


def status(
    study: Annotated[str, _WHICH] = ALL,
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
    from supermask.study import RecordStore
    from supermask.study.plan import study_status

    studies, folder = chosen_studies(study, base=base, tasks=tasks, seeds=seeds, results=results)
    store = RecordStore(folder)
    found = [(one, study_status(one, store)) for one in studies]
    if not as_json:
        warn_of_skipped(store)
    answer(_document(found, store), _told(found, store), as_json=as_json)


def warn_of_skipped(store: RecordStore) -> None:
    """Name the files of a store that are no record."""
    for skipped in store.skipped:
        note(f"warning: {store.folder / skipped.path} is no record and plays no part: {skipped.reason}")


def _told(found: list[tuple[Study, list[RunStatus]]], store: RecordStore) -> Iterator[str | PlainTable]:
    from supermask.study.pace import seconds_left, shown_duration

    columns = (">recorded", ">measured", ">running", ">failed", ">missing", ">time for the rest")
    table = plain_table("study", *columns, folds=True)
    for study, runs in found:
        left = [run for run in runs if run.state != "recorded"]
        table.add_row(
            study.name,
            f"{len(runs) - len(left)} of {len(runs)}",
            str(sum(run.measured for run in runs)),
            *(str(sum(run.state == state for run in left) or "") for state in ("running", "failed", "missing")),
            shown_duration(seconds_left([run.seconds for run in left])) if left else "",
        )
    yield from (f"{store.folder}: {len(store.records)} records", table)
    told = {run.run.key: run for _, runs in reversed(found) for run in reversed(runs)}
    for run in told.values():
        if run.state in ("running", "failed"):
            what = run.position or (run.stored.record.error if run.stored else None) or ""
            yield f"{run.state}: {run.run.task}/{run.run.label}: {what}"
    if len(found) == 1 and (missing := [run.run for run in found[0][1] if run.state == "missing"]):
        yield f"missing: {', '.join(f'{run.task}/{run.label}' for run in missing)}"


def _document(found: list[tuple[Study, list[RunStatus]]], store: RecordStore) -> dict[str, object]:
    from supermask.study.pace import seconds_left

    return {
        "results": str(store.folder),
        "records": len(store.records),
        "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in store.skipped],
        "studies": [
            {
                "name": study.name,
                "base": study.base,
                "seconds_left": seconds_left([run.seconds for run in runs if run.state != "recorded"]),
                "runs": [
                    {
                        "task": run.run.task,
                        "arm": run.run.arm,
                        "seed": run.run.seed,
                        "state": run.state,
                        "path": run.stored.path if run.stored else None,
                        "measured": run.measured,
                        "error": run.stored.record.error if run.stored else None,
                        "position": run.position,
                        "seconds": run.seconds,
                    }
                    for run in runs
                ],
            }
            for study, runs in found
        ],
    }
