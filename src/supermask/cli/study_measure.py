"""`supermask study measure`: measures of runs that are recorded already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from supermask.cli.options import AsJson, argument, option
from supermask.cli.printing import answer, note
from supermask.cli.study_options import Results

__all__ = ["EXAMPLES", "measure"]

EXAMPLES = (
    "supermask study measure",
    "supermask study measure runs/minilm-l6/*/*/delta --results results/minilm-l6",
)


def measure(
    deltas: Annotated[
        list[Path] | None,
        argument("[DELTA]...", "Folders or files of deltas that were kept elsewhere."),
    ] = None,
    results: Results = None,
    base: Annotated[
        str | None, option(None, "NAME_OR_DIR", "Where the base is now. \\[default: what the record names]")
    ] = None,
    keep_deltas: Annotated[
        Literal["masks", "all", "none"],
        option(None, None, "Which of the given deltas are copied beside their records."),
    ] = "masks",
    again: Annotated[bool, option(None, "", "Measure also what is measured already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure recorded runs: distances, zeros and magnitudes of their deltas.

    Each delta that is given is matched with its record by what both say of
    the run. Then come the deltas that lie beside their records, and the pairs
    of masks that figure7 compares. The exit code is 1 if one cannot be measured.
    """
    from supermask.models import DEFAULT_BASE
    from supermask.study.measuring import load_base_model, measure_store
    from supermask.study.records import RecordStore, default_results, keeps_delta

    store = RecordStore(results if results is not None else default_results(base or DEFAULT_BASE))
    masks = [
        stored
        for stored in store.records
        if stored.record.status == "completed"
        and keeps_delta("masks", stored.method)
        and not stored.method["initial_sparsity"]
    ]
    found = measure_store(
        store,
        lambda name: load_base_model(base or name),
        deltas=deltas or (),
        keep_deltas=keep_deltas,
        again=again,
        compare=masks,
    )
    document = {"results": str(store.folder), "runs": found.runs, "pairs": found.pairs, "faults": found.faults}
    told = [f"measured: {path}" for path in (*found.runs, *found.pairs)]
    answer(document, told or [f"{store.folder}: there is nothing new to measure"], as_json=as_json)
    for fault in () if as_json else found.faults:
        note(f"not measured: {fault}")
    if found.faults:
        raise typer.Exit(1)
