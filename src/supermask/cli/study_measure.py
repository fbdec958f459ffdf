"""`supermask study measure`: measures of runs that are recorded already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from supermask.cli.options import AsJson
from supermask.cli.study_options import Results

__all__ = ["EXAMPLES", "measure"]

EXAMPLES = (
    "supermask study measure",
    "supermask study measure runs/minilm-l6/*/*/delta --results results/minilm-l6",
)


def measure(
    deltas: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DELTA]...",
            help="Folders or files of deltas that were kept elsewhere.",
            show_default=False,
        ),
    ] = None,
    results: Results = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="NAME_OR_DIR", help="Where the base is now. \\[default: what the record names]"),
    ] = None,
    keep_deltas: Annotated[
        Literal["masks", "all", "none"],
        typer.Option("--keep-deltas", help="Which of the given deltas are copied beside their records."),
    ] = "masks",
    again: Annotated[bool, typer.Option("--again", metavar="", help="Measure also what is measured already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure recorded runs: distances, zeros and magnitudes of their deltas.

    Each delta that is given is matched with its record by what both say of
    the run. Then come the deltas that lie beside their records, and the pairs
    of masks that figure7 compares. The exit code is 1 if one cannot be measured.
    """
    import functools

    from supermask.cli.printing import note, print_json, print_lines
    from supermask.models import DEFAULT_BASE
    from supermask.study.measuring import Measured, measure_deltas, measure_store, pairs_to_measure
    from supermask.study.planning import masks_alone
    from supermask.study.records import RecordStore
    from supermask.study.runner import default_results, load_base_model

    store = RecordStore(results if results is not None else default_results(base or DEFAULT_BASE))
    model = functools.cache(lambda name: load_base_model(base or name))
    given = Measured()
    if deltas:
        given = measure_deltas(store, deltas, model, keep_deltas=keep_deltas, again=again)
    masks = [
        stored
        for stored in store.records
        if stored.record.status == "completed" and masks_alone(stored.method) and not stored.method["initial_sparsity"]
    ]
    beside = measure_store(store, model, pairs_of=pairs_to_measure(masks))
    faults = [*given.faults, *beside.faults]
    runs = [*given.runs, *beside.runs]
    if as_json:
        print_json({"results": str(store.folder), "runs": runs, "pairs": beside.pairs, "faults": faults})
    else:
        print_lines([f"measured: {path}" for path in (*runs, *beside.pairs)])
        print_lines([] if runs or beside.pairs else [f"{store.folder}: there is nothing new to measure"])
        for fault in faults:
            note(f"not measured: {fault}")
    if faults:
        raise typer.Exit(1)
