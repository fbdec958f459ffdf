"""The folder of a run: what may be written there, and what a run that was cut off has left."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import final

from supermask.atomic import write_atomically
from supermask.errors import ConfigurationError, DataError, OutputError
from supermask.training.record import RunInputs, RunRecord, differing_inputs

__all__ = ["RunFolder"]


@final
class RunFolder:
    """Where a run keeps its inputs, checkpoints, delta and record.

    Layout: `inputs.json` is written before the training and says what the run is; `checkpoints/` holds what it resumes
    from and goes when the run is complete; `delta/` and `record.json` are its results.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inputs_path = path / "inputs.json"
        self.record_path = path / "record.json"
        self.checkpoints = path / "checkpoints"
        self.delta = path / "delta"
        self.figure = path / "zeros.png"

    def open(self, inputs: RunInputs, *, resume: bool, overwrite: bool, bytes_needed: int) -> RunRecord | None:
        """Make the folder ready before any compute is spent.

        Args:
            inputs: what is to be run.
            resume: go on with the run that is there.
            overwrite: throw away the run that is there.
            bytes_needed: estimate of what the run will write.

        Returns:
            The record of the run to resume, if it is complete already.

        Raises:
            OutputError: if the folder holds a run and neither is asked for, cannot be written to, or has too little
                space.
            ConfigurationError: if the run to resume was of other inputs.
            DataError: if the run to resume cannot be read.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path}: is a file; name a folder for the run")
        holds_run = self.inputs_path.exists() or self.record_path.exists()
        if holds_run and resume:
            self._check_same(inputs)
        elif holds_run and overwrite:
            self._clear()
        elif holds_run:
            raise OutputError(
                f"{self.path}: already holds a run; name another folder, continue it (resume) or replace it (overwrite)"
            )
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise OutputError(f"{self.path}: is not empty and holds no run; name a new or empty folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be made: {error.strerror}") from None
        free = shutil.disk_usage(self.path).free
        if free < bytes_needed:
            raise OutputError(
                f"{self.path}: {free / 2**20:.0f} MiB are free and the run needs about {bytes_needed / 2**20:.0f} MiB; "
                "free some space, or choose another disk"
            )
        write_atomically(self.inputs_path, (inputs.model_dump_json(indent=1) + "\n").encode())
        if not resume or not self.record_path.exists():
            return None
        record = RunRecord.load(self.record_path)
        return record if record.status == "completed" else None

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written whole."""
        if not self.checkpoints.is_dir():
            return None
        found = {
            int(path.name.removeprefix("checkpoint-")): path
            for path in self.checkpoints.glob("checkpoint-*")
            # The Trainer writes its state last, so a checkpoint without it was cut off.
            if path.name.removeprefix("checkpoint-").isdigit() and (path / "trainer_state.json").exists()
        }
        return found[max(found)] if found else None

    def drop_checkpoints(self) -> None:
        """Remove what only a resumed run would need."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _check_same(self, inputs: RunInputs) -> None:
        try:
            before = RunInputs.model_validate_json(self.inputs_path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError(f"{self.inputs_path}: cannot be read, so the run cannot be resumed: {error}") from None
        differing = differing_inputs(before, inputs)
        if differing:
            raise ConfigurationError(
                f"{self.path}: holds a run of other inputs ({', '.join(differing[:6])}); resume with the same inputs, "
                "or name another folder"
            )

    def _clear(self) -> None:
        shutil.rmtree(self.delta, ignore_errors=True)
        self.drop_checkpoints()
        for path in (self.figure, self.record_path, self.inputs_path):
            path.unlink(missing_ok=True)
