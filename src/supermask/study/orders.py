"""One run as a piece of work: all that a worker needs to know, and the lock that says who is at it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, final

from filelock import FileLock, Timeout

from supermask.atomic import write_atomically
from supermask.configuration import Configuration
from supermask.errors import OutputError, SupermaskError
from supermask.study.records import StoredRecord
from supermask.training import RunRecord
from supermask.training.output import RunFolder
from supermask.training.record import RunInputs

__all__ = ["LOCKS_FOLDER", "RunOrder", "claimed", "holders", "is_claimed", "lock_path", "reached_step"]

LOCKS_FOLDER: Final = ".locks"


@final
class RunOrder(Configuration):
    """A run that is to be made, on checked inputs.

    Args:
        inputs: what the run is a function of; the worker refuses another base and other data.
        label, draws, key, address: of the run, see `supermask.study.expansion`.
        data_dir, limit, dev_limit, use_cpu: as in `RunSettings`.
        directory: the working folder that relative paths start from.
        store, target: the folder of records, and where in it the record is or goes.
        work: the folder for what the run resumes from.
        keep_delta: whether the delta stays beside the record.
        steps, seconds: how many steps it takes and how long, from like runs; None if nothing like it is recorded.
    """

    inputs: RunInputs
    label: str
    draws: int
    key: str
    address: str
    data_dir: str | None = None
    limit: int | None = None
    dev_limit: int | None = None
    directory: str
    store: str
    target: str
    work: str
    keep_delta: bool = False
    use_cpu: bool = False
    steps: int
    seconds: float | None = None

    @property
    def name(self) -> str:
        """The run in words: `mrpc/supermask-seed0`."""
        return f"{self.inputs.task}/{self.label}"

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

    @property
    def failures_path(self) -> Path:
        """A byte for each time that the run has failed."""
        return Path(self.work) / "failures"

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

    def save(self) -> Path:
        """Write the order into its folder, for a worker to read."""
        path = Path(self.work) / "order.json"
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())
        return path


def lock_path(store: Path, address: str) -> Path:
    """The lock file of the run of that content address, in the folder of records that all who work on it share."""
    return store / LOCKS_FOLDER / f"{address}.lock"


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
    for path in sorted((store / LOCKS_FOLDER).glob("*.lock")):
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
