"""One run in one process: `python -m supermask.study.worker ORDER`."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Final, Literal

from supermask.errors import BaseMismatchError, DataError, SupermaskError
from supermask.study.locks import claimed
from supermask.study.orders import RunOrder
from supermask.study.records import StoredRecord, delta_path, measures_path
from supermask.training import RunRecord

__all__ = ["BUSY", "DONE", "FAILED", "LEASH", "execute", "main", "note_failure"]

DONE: Final = 0
FAILED: Final = 70  # EX_SOFTWARE; 1 is of errors that nobody caught
BUSY: Final = 75  # EX_TEMPFAIL: another process is at work on this run

LEASH: Final = "SUPERMASK_STUDY_LEASH"
"""Where this is set, standard input is a pipe from the runner, and its end is the end of the worker."""


def execute(order: RunOrder, *, quiet: bool = True) -> int:
    """Make a run: train it, measure its delta, and put its record into the store.

    A run that was cut off goes on where it stopped. Whatever fails is recorded as a failed run.

    Args:
        order: the run.
        quiet: show no progress of the training.

    Returns:
        `DONE`, `FAILED`, or `BUSY` if another process is at work on this run.
    """
    # Under `accelerate launch` every process trains, and the first one alone writes.
    first = os.environ.get("RANK", "0") == "0"
    with claimed(order.lock_path, _note(order)) if first else contextlib.nullcontext(True) as ours:
        if not ours:
            return BUSY
        if first and _is_recorded(order):  # by another runner, since this order was written
            return DONE
        started = _now()
        try:
            _train(order, first=first, quiet=quiet)
        except Exception as error:
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            if first:
                note_failure(order, f"{type(error).__name__}: {error}", started=started)
            return FAILED
        return DONE


def note_failure(order: RunOrder, error: str, *, started: str | None = None) -> RunRecord:
    """Record that a run did not go through.

    Args:
        order: the run.
        error: what stopped it.
        started: when it began, in UTC.
    """
    from supermask.prediction.given import resolve_precision, take_device
    from supermask.training.provenance import current_environment

    device = take_device(use_cpu=order.use_cpu)
    record = RunRecord(
        status="failed",
        error=error,
        inputs=order.inputs,
        environment=current_environment(device),
        precision=resolve_precision(order.config.precision, device.type),
        started=started or _now(),
        steps=0,
        train_seconds=0.0,
    )
    with (
        contextlib.suppress(OSError),  # a full disk may be what stopped it
        (Path(order.work) / "failures.txt").open("a", encoding="utf-8") as failures,
    ):
        failures.write(f"{_now()} {error.splitlines()[:1]}\n")
    record.save(order.record_path)
    return record


def main(arguments: list[str] | None = None) -> int:
    """Make the run of an order file; the exit code is that of `execute`."""
    (path,) = arguments if arguments is not None else sys.argv[1:]
    if os.environ.get(LEASH):
        threading.Thread(target=_end_with_the_runner, daemon=True).start()
    return execute(RunOrder.load(Path(path)))


def _train(order: RunOrder, *, first: bool, quiet: bool) -> None:
    from supermask.deltas import base_fingerprint
    from supermask.methods import method_from_description
    from supermask.models import load_base, map_parameters
    from supermask.prediction import kind_of
    from supermask.study.measuring import copy_file
    from supermask.study.run_data import load_run_data
    from supermask.training import train

    data = load_run_data(order.task, order.data_dir, limit=order.limit, dev_limit=order.dev_limit)
    here = data.content_hashes
    if here != {split: info.content_hash for split, info in order.data.items()}:
        raise DataError(f"the data of {order.task} are not those that were checked; has a file changed, or a machine?")
    base = load_base(
        order.base.name or "",
        **kind_of(data.task).head(data.task),
        revision=order.base.revision,
        seed=order.config.seed,
    )
    if base_fingerprint(base.model, head=map_parameters(base.model).head).digest != order.base.fingerprint:
        raise BaseMismatchError(f"the base {order.base.name} is not the one that was checked; has its folder changed?")
    beginning = _beginning(order)
    run = train(
        base,
        task=data,
        method=method_from_description(order.method),
        config=order.config,
        output_dir=order.folder.path,
        resume=beginning == "resume",
        overwrite=beginning == "overwrite",
        draws=order.draws,
        quiet=quiet,
        use_cpu=order.use_cpu,
    )
    if first:
        _measure(order, base.model, run.delta)
        if order.keep_delta:
            copy_file(order.folder.delta / "delta.safetensors", delta_path(order.record_path))
        run.record.save(order.record_path)  # last: what is recorded is done


def _beginning(order: RunOrder) -> Literal["new", "resume", "overwrite"]:
    """Go on with what is there, unless it is of other inputs or has failed once more after it was gone on with."""
    from supermask.training.record import RunInputs, differing_inputs

    folder = order.folder
    if not folder.inputs_path.exists():
        return "overwrite" if folder.record_path.exists() else "new"
    try:
        before = RunInputs.model_validate_json(folder.inputs_path.read_bytes())
    except (OSError, ValueError):
        return "overwrite"
    # Of one address, so what differs has no effect, such as how the data folder was written.
    if differing_inputs(before, order.inputs) or (_failures(order) and _failures(order) % 2 == 0):
        return "overwrite"
    return "resume"


def _failures(order: RunOrder) -> int:
    path = Path(order.work) / "failures.txt"
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def _measure(order: RunOrder, model: Any, delta: Any) -> None:
    """Measure what only the delta shows; the scores are worth recording even where that fails."""
    from supermask.study.measures import measure_run

    try:
        measure_run(model, delta, verify=False).save(measures_path(order.record_path))
    except Exception:
        print(traceback.format_exc(), file=sys.stderr, flush=True)


def _is_recorded(order: RunOrder) -> bool:
    try:
        stored = StoredRecord(order.target, RunRecord.load(order.record_path))
    except SupermaskError:
        return False
    inputs = stored.record.inputs
    return (
        stored.record.status == "completed"
        and stored.key == order.key
        and inputs.base.fingerprint == order.base.fingerprint
        and {split: info.content_hash for split, info in inputs.data.items()}
        == {split: info.content_hash for split, info in order.data.items()}
    )


def _note(order: RunOrder) -> dict[str, Any]:
    return {
        "run": order.name,
        "key": order.key,
        "work": str(Path(order.work).absolute()),
        "process": os.getpid(),
        "host": socket.gethostname(),
        "started": _now(),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _end_with_the_runner() -> None:
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 1024):
            pass
    os._exit(FAILED)  # what is needed to go on is on the disk already


if __name__ == "__main__":
    sys.exit(main())
