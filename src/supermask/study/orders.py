"""One run as a piece of work: all that a worker needs to know, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from pydantic import ValidationError

from supermask.atomic import write_atomically
from supermask.configuration import Configuration, describe_faults
from supermask.errors import DataError
from supermask.study.locks import lock_path
from supermask.training import TrainingConfig
from supermask.training.output import RunFolder
from supermask.training.record import BaseInfo, DataInfo, RunInputs

__all__ = ["RunOrder"]


@final
class RunOrder(Configuration):
    """A run that is to be made, on checked inputs.

    Args:
        task, label, method, config, draws: of the run, see `RunSpec`.
        task_version: version of the task.
        key, address: its key and its content address, see `supermask.study.keys`.
        base: which base; the worker refuses another one.
        data: the splits it reads; the worker refuses other content.
        data_dir: where GLUE files are; None for the hub and for probes.
        limit: train on the first so many examples; None for all.
        dev_limit: score on the first so many examples of each split; None for all.
        directory: the working folder that relative paths start from.
        store: the folder of records.
        target: where the record goes, relative to the store.
        work: the folder for what the run resumes from.
        keep_delta: whether the delta stays beside the record.
        use_cpu: stay on the CPU even where there is an accelerator.
    """

    task: str
    task_version: int
    label: str
    method: dict[str, Any]
    config: TrainingConfig
    draws: int
    key: str
    address: str
    base: BaseInfo
    data: dict[str, DataInfo]
    data_dir: str | None = None
    limit: int | None = None
    dev_limit: int | None = None
    directory: str
    store: str
    target: str
    work: str
    keep_delta: bool = False
    use_cpu: bool = False

    @property
    def name(self) -> str:
        """The run in words: `mrpc/supermask-seed0`."""
        return f"{self.task}/{self.label}"

    @property
    def inputs(self) -> RunInputs:
        """What the run's record says that it is a function of."""
        return RunInputs(
            base=self.base,
            task=self.task,
            task_version=self.task_version,
            data=self.data,
            method=self.method,
            config=self.config,
        )

    @property
    def record_path(self) -> Path:
        """Where the record goes."""
        return Path(self.store) / self.target

    @property
    def lock_path(self) -> Path:
        """The lock that a worker holds."""
        return lock_path(Path(self.store), self.address)

    @property
    def folder(self) -> RunFolder:
        """The training's own folder."""
        return RunFolder(Path(self.work) / "run")

    @property
    def log_path(self) -> Path:
        """What a worker prints."""
        return Path(self.work) / "log.txt"

    def save(self) -> Path:
        """Write the order into its folder, for a worker to read."""
        path = Path(self.work) / "order.json"
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: Path) -> RunOrder:
        """Read an order.

        Raises:
            DataError: if the file is missing or no order.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise DataError(f"{path}: is no order: {describe_faults(cls, error)}") from None
