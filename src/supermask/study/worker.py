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
from typing import Final

from supermask.errors import BaseMismatchError, DataError
from supermask.study.orders import RunOrder, claimed
from supermask.study.records import keeps_delta, measures_path
from supermask.training import RunRecord
from supermask.training.record import RunInputs, differing_inputs

__all__ = ["BUSY", "DONE", "FAILED", "LEASH", "execute", "note_failure"]

DONE: Final = 0
FAILED: Final = 70  # EX_SOFTWARE; 1 is of errors that nobody caught
BUSY: Final = 75  # EX_TEMPFAIL: another process is at work on this run

LEASH: Final = "SUPERMASK_STUDY_LEASH"
"""Where this is set, standard input is a pipe from the runner, and its end is the end of the worker."""


def execute(order: RunOrder) -> int:
    """Make a run: train it, measure its delta, and put its record into the store.

    A run that was cut off goes on where it stopped. Whatever fails is recorded as a failed run.

    Returns:
        `DONE`, `FAILED`, or `BUSY` if another process is at work on this run.
    """
    # Under `accelerate launch` every process trains, and the first one alone writes.
    first = os.environ.get("RANK", "0") == "0"
    note = {
        "run": order.name,
        "key": order.key,
        "work": str(order.work.absolute()),
        "process": os.getpid(),
        "host": socket.gethostname(),
        "started": _now(),
    }
    with claimed(order.lock_path, note) if first else contextlib.nullcontext(True) as ours:
        if not ours:
            return BUSY
        if first and order.recorded():  # by another runner, since this order was written
            return DONE
        started = _now()
        try:
            _train(order, first=first)
        except Exception as error:
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            if first:
                note_failure(order, f"{type(error).__name__}: {error}", started=started)
            return FAILED
        return DONE


def note_failure(order: RunOrder, error: str, *, started: str | None = None) -> None:
    """Record that a run did not go through, and what stopped it."""
    from supermask.prediction.given import resolve_precision, take_device
    from supermask.training.provenance import current_environment

    device = take_device(use_cpu=order.settings.use_cpu)
    record = RunRecord(
        status="failed",
        error=error,
        inputs=order.inputs,
        environment=current_environment(device),
        precision=resolve_precision(order.inputs.config.precision, device.type),
        started=started or _now(),
        steps=0,
        train_seconds=0.0,
    )
    with contextlib.suppress(OSError), order.failures_path.open("ab") as failures:  # a full disk may be what stopped it
        failures.write(b"x")
    record.save(order.record_path)


def _train(order: RunOrder, *, first: bool) -> None:
    from supermask.deltas import base_fingerprint
    from supermask.methods import method_from_description
    from supermask.models import load_base, map_parameters
    from supermask.prediction import kind_of
    from supermask.study.inputs import load_run_data
    from supermask.study.measuring import copy_delta, measure_run
    from supermask.training import train

    wanted, how = order.inputs, order.settings
    data = load_run_data(wanted.task, how.data_dir, limit=how.limit, dev_limit=how.dev_limit)
    if data.content_hashes != order.hashes:
        raise DataError(f"the data of {wanted.task} are not those that were checked; has a file changed, or a machine?")
    base = load_base(
        wanted.base.name or "",
        **kind_of(data.task).head(data.task),
        revision=wanted.base.revision,
        seed=wanted.config.seed,
    )
    if base_fingerprint(base.model, head=map_parameters(base.model).head).digest != wanted.base.fingerprint:
        raise BaseMismatchError(f"the base {wanted.base.name} is not the one that was checked; has its folder changed?")
    resume = _goes_on(order)
    run = train(
        base,
        task=data,
        method=method_from_description(wanted.method),
        config=wanted.config,
        output_dir=order.folder.path,
        resume=resume,
        overwrite=not resume,
        draws=order.draws,
        quiet=True,
        use_cpu=how.use_cpu,
    )
    if first:
        try:  # what only the delta shows; the scores are worth recording even where that fails
            measure_run(base.model, run.delta, verify=False).save(measures_path(order.record_path))
        except Exception:
            print(traceback.format_exc(), file=sys.stderr, flush=True)
        if keeps_delta(how.keep_deltas, wanted.method):
            copy_delta(order.folder.delta, order.record_path)
        run.record.save(order.record_path)  # last: what is recorded is done


def _goes_on(order: RunOrder) -> bool:
    """Whether what is there is of the same inputs, and has not failed once more after it was gone on with."""
    try:
        before = RunInputs.model_validate_json(order.folder.inputs_path.read_bytes())
    except (OSError, ValueError):
        return False
    # Of one address, so what differs has no effect, such as how the data folder was written; the head has its own size.
    differing = {*differing_inputs(before, order.inputs)} - {"base.parameters"}
    failures = order.failures_path.stat().st_size if order.failures_path.exists() else 0
    return not differing and (failures == 0 or failures % 2 == 1)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _end_with_the_runner() -> None:
    with contextlib.suppress(OSError, ValueError):
        while os.read(0, 1024):
            pass
    os._exit(FAILED)  # what is needed to go on is on the disk already


if __name__ == "__main__":
    if os.environ.get(LEASH):
        threading.Thread(target=_end_with_the_runner, daemon=True).start()
    sys.exit(execute(RunOrder.model_validate_json(Path(sys.argv[1]).read_bytes())))
