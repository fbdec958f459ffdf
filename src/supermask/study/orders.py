"""One run as a piece of work: all that a worker needs to know, and the lock that says who is at it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, final

from filelock import FileLock, Timeout

from supermask.atomic import write_atomically
from supermask.configuration import Configuration
from supermask.errors import OutputError, SupermaskError
from supermask.settings import RunSettings
from supermask.study.records import StoredRecord, measures_path
from supermask.training import RunRecord
from supermask.training.output import RunFolder
from supermask.training.record import RunInputs

__all__ = ["RunOrder", "RunState", "claimed", "holders", "is_claimed", "lock_path", "reached_step"]

_LOCKS: Final = ".locks"

RunState = Literal["recorded", "running", "failed", "missing"]
"""`failed` runs are tried again; `running` ones another process is at work on."""


@final
class RunOrder(Configuration):
    """A run that is to be made, on checked inputs.

    Args:
        inputs: what the run is a function of; the worker refuses another base and other data.
        label, draws, key, address: of the run, see `supermask.study.expansion`.
        settings: where and how.
        directory: the working folder that relative paths start from.
        target: where the record is or goes, relative to the results.
        steps, seconds: how many steps it takes and how long, from like runs; None if nothing like it is recorded.
        state: where the run stood when the order was written.
        compared: whether its mask is to be compared with those of other tasks.
    """

    inputs: RunInputs
    label: str
    draws: int
    key: str
    address: str
    settings: RunSettings
    directory: str
    target: str
    steps: int
    seconds: float | None = None
    state: RunState = "missing"
    compared: bool = False

    @property
    def name(self) -> str:
        """The run in words: `mrpc/supermask-seed0`."""
        return f"{self.inputs.task}/{self.label}"

    @property
    def record_path(self) -> Path:
        """Where the record goes."""
        return self.settings.results / self.target

    @property
    def lock_path(self) -> Path:
        """The lock that a worker holds."""
        return lock_path(self.settings.results, self.address)

    @property
    def work(self) -> Path:
        """The folder for what the run resumes from."""
        return self.settings.work_folder / self.address

    @property
    def folder(self) -> RunFolder:
        """The training's own folder."""
        return RunFolder(self.work / "run")

    @property
    def log_path(self) -> Path:
        """What a worker prints."""
        return self.work / "log.txt"

    @property
    def failures_path(self) -> Path:
        """A byte for each time that the run has failed."""
        return self.work / "failures"

    @property
    def hashes(self) -> dict[str, str]:
        """Split to the hash of its content."""
        return {split: info.content_hash for split, info in self.inputs.data.items()}

    def recorded(self) -> RunRecord | None:
        """The completed record of this run on these inputs; None if that is not at its place."""
        try:
            stored = StoredRecord(self.target, RunRecord.load(self.record_path))
        except SupermaskError:
            return None
        done = stored.record.status == "completed" and stored.key == self.key
        same = stored.record.inputs.base.fingerprint == self.inputs.base.fingerprint and stored.hashes == self.hashes
        return stored.record if done and same else None

    def clear(self) -> None:
        """Remove what the run resumed from, unless its delta is still to be measured."""
        if measures_path(self.record_path).exists():
            shutil.rmtree(self.work, ignore_errors=True)

    def save(self) -> Path:
        """Write the order into its folder, for a worker to read."""
        path = self.work / "order.json"
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())
        return path


def lock_path(store: Path, address: str) -> Path:
    """The lock file of the run of that content address, in the folder of records that all who work on it share."""
    return store / _LOCKS / f"{address}.lock"


@contextlib.contextmanager
def claimed(path: Path, note: Mapping[str, Any] | None = None) -> Iterator[bool]:
    """Hold a lock for the time of a `with` block, if nobody else does; the system lets go of it when its holder dies.

    Args:
        path: the lock file.
        note: what others may read about the holder, as JSON in a file beside the lock.

    Yields:
        Whether the lock is held; False if another process has it.

    Raises:
        OutputError: if the file cannot be made or the disk has no locks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, claimed(Path(folder) / "a.lock") as ours:
        ...     ours, is_claimed(Path(folder) / "a.lock")
        (True, True)
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        raise OutputError(
            f"{path}: cannot be locked: {error}; keep results where you may write, on a disk that has locks"
        ) from error
    try:
        if note is not None:
            path.with_suffix(".json").write_text(json.dumps(dict(note)), encoding="utf-8")
        yield True
    finally:
        lock.release()


def is_claimed(path: Path) -> bool:
    """Whether a living process holds the lock."""
    if not path.exists():
        return False
    try:
        with claimed(path) as free:
            return not free
    except OutputError:
        return False


def holders(store: Path) -> dict[str, dict[str, Any]]:
    """The runs that are being worked on: content address to what the holder noted."""
    found = {}
    for path in sorted((store / _LOCKS).glob("*.lock")):
        if is_claimed(path):
            try:
                note = json.loads(path.with_suffix(".json").read_bytes())
            except (OSError, ValueError):
                note = {}
            found[path.stem] = note if isinstance(note, dict) else {}
    return found


def reached_step(work: str | Path) -> int | None:
    """The optimizer step that a run can go on from; None if it has none yet."""
    last = RunFolder(Path(work) / "run").last_checkpoint()
    return None if last is None else int(last.name.removeprefix("checkpoint-"))
