"""A folder of run records: what is in it, and which record answers a run."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, final

from supermask.errors import DataError, SupermaskError
from supermask.methods import method_from_description
from supermask.study.expansion import RunSpec, run_key
from supermask.study.measures import PairMeasures, RunMeasures
from supermask.tasks import find_task
from supermask.training import RunRecord

__all__ = [
    "KeepDeltas",
    "RecordStore",
    "SkippedFile",
    "StoredRecord",
    "default_results",
    "delta_path",
    "keeps_delta",
    "measures_path",
    "pair_path",
]

KeepDeltas = Literal["masks", "all", "none"]
"""Which deltas stay beside their records: of methods that store masks alone, all, or none."""

_T = TypeVar("_T")

_MEASURES: Final = ".measures.json"
_PAIRS: Final = "pairs"


@final
@dataclass(frozen=True)
class StoredRecord:
    """A record, and where it is: a path relative to the store, with forward slashes."""

    path: str
    record: RunRecord

    @functools.cached_property
    def method(self) -> dict[str, Any]:
        """The method, with settings that it did not have yet when it was recorded at their defaults."""
        try:
            return method_from_description(self.record.inputs.method).describe()
        except SupermaskError:  # of a method that is none any more, and so answers no run
            return self.record.inputs.method

    @functools.cached_property
    def key(self) -> str:
        """As `RunSpec.key`, of the run that was recorded."""
        inputs = self.record.inputs
        return run_key(inputs.task, inputs.task_version, self.method, inputs.config)

    @property
    def hashes(self) -> dict[str, str]:
        """Split to the hash of its content."""
        return {split: info.content_hash for split, info in self.record.inputs.data.items()}

    @property
    def draws(self) -> int | None:
        """How many masks were sampled for the score; None if none were."""
        spreads = [one for metrics in self.record.sampled_scores.values() for one in metrics.values()]
        return min(len(one.values) for one in spreads) if spreads else None


@final
@dataclass(frozen=True)
class SkippedFile:
    """A file of the store that is no record, and why."""

    path: str
    reason: str


@final
class RecordStore:
    """The records of a folder, completed and failed, as they are when this is made, by path.

    Every JSON file at any depth is taken for a record, whatever it is called, except measures, pairs, and what stands
    in hidden folders. A file that cannot be read is left out and listed in `skipped`.

    Args:
        folder: the folder; it need not exist yet.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._skipped: dict[str, SkippedFile] = {}
        self._by_path: dict[str, StoredRecord] = {}
        for place in sorted(self.folder.rglob("*.json")):
            path = place.relative_to(self.folder)
            hidden = path.parts[0] == _PAIRS or any(part.startswith(".") for part in path.parts)
            if not hidden and not place.name.endswith(_MEASURES) and place.exists():
                record = self._readable(place, RunRecord.load)
                if record is not None:
                    self._by_path[path.as_posix()] = StoredRecord(path.as_posix(), record)
        self.records = tuple(self._by_path.values())
        self._by_key: dict[str, list[StoredRecord]] = {}
        for stored in self.records:
            self._by_key.setdefault(stored.key, []).append(stored)

    @property
    def skipped(self) -> tuple[SkippedFile, ...]:
        """The files that are no record, by path, and measures that could not be read when they were asked for."""
        return tuple(self._skipped.values())

    def at(self, path: str) -> StoredRecord | None:
        """The record of that path, relative to the store; None if there is none."""
        return self._by_path.get(path)

    def place_for(self, run: RunSpec, address: str, taken: Mapping[str, str]) -> str:
        """Where the record of a run of that address goes: under its label, unless something is there that should stay.

        Args:
            taken: places of records to come: path to content address.
        """
        plain = f"{run.task}/{run.label}.json"
        there = self.at(plain)
        free = there is None and not (self.folder / plain).exists()
        replaceable = there is not None and there.record.status == "failed" and there.key == run.key
        if (free or replaceable) and taken.get(plain, address) == address:
            return plain
        return f"{run.task}/{run.label}-{address}.json"

    def find(
        self,
        run: RunSpec,
        *,
        base: str | None = None,
        fingerprint: str | None = None,
        data: Mapping[str, str] | None = None,
        version: str | None = None,
    ) -> StoredRecord | None:
        """The completed record that answers a run: of the same task and version, method and settings.

        Of several, the one that learnt from most examples is taken, and of those the newest. What is None is not asked.

        Args:
            run: the run.
            base, fingerprint: of the base: its name, or its fingerprint, and then the name does not matter.
            data: split to content hash, of all splits that the run reads.
            version: of supermask.
        """
        task = find_task(run.task)
        splits = {task.train_split, *task.report_splits}
        found = []
        for stored in self._by_key.get(run.key, ()):
            record, inputs = stored.record, stored.record.inputs
            named = fingerprint is not None or base in (None, inputs.base.name)
            if (
                record.status == "completed"
                and named
                and fingerprint in (None, inputs.base.fingerprint)
                # Other splits, such as a part of the training data held out, answer another question.
                and (set(inputs.data) == splits if data is None else stored.hashes == data)
                and version in (None, record.environment.supermask)
                and run.config.precision in (inputs.config.precision, record.precision)
                and (stored.draws is None or stored.draws >= run.draws)
            ):
                examples = sum(info.examples for info in inputs.data.values())
                found.append((examples, record.started, stored.path, stored))
        return max(found)[-1] if found else None

    def failed(self, run: RunSpec, *, base: str | None = None) -> StoredRecord | None:
        """The newest record of a run that failed, whether or not it was completed later."""
        failed = (stored for stored in self._by_key.get(run.key, ()) if stored.record.status == "failed")
        found = [stored for stored in failed if base in (None, stored.record.inputs.base.name)]
        return max(found, key=lambda stored: stored.record.started, default=None)

    def seeds_of(self, run: RunSpec, *, base: str | None = None) -> list[int]:
        """The seeds with which a run is recorded, ascending."""
        seeds = {stored.record.inputs.config.seed for stored in self.records}
        return sorted(seed for seed in seeds if self.find(run.with_seed(seed), base=base) is not None)

    def measures(self, path: str) -> RunMeasures | None:
        """The measures beside a record; None if there are none, or they cannot be read: then `skipped` names them."""
        place = measures_path(self.folder / path)
        return self._readable(place, RunMeasures.load) if place.exists() else None

    def pairs(self, paths: Collection[str]) -> tuple[PairMeasures, ...]:
        """The measures of pairs of which both runs are among these records."""
        labels = {path.removesuffix(".json") for path in paths}
        places = sorted((self.folder / _PAIRS).glob("*.json"))
        loaded = [self._readable(place, PairMeasures.load) for place in places]
        return tuple(pair for pair in loaded if pair is not None and {pair.first, pair.second} <= labels)

    def _readable(self, place: Path, load: Callable[[Path], _T]) -> _T | None:
        name = place.relative_to(self.folder).as_posix()
        try:
            loaded = load(place)
        except DataError as error:
            self._skipped[name] = SkippedFile(name, str(error).removeprefix(f"{place}: "))
            return None
        self._skipped.pop(name, None)
        return loaded


def default_results(base: str, limit: int | None = None) -> Path:
    """Where records of a base go if nothing else is said; those of cut training data apart from the rest.

    Example:
        >>> default_results("minilm-l6").as_posix(), default_results("me/my-bert", 500).as_posix()
        ('results/minilm-l6', 'results/me-my-bert-first500')
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-.") or "base"
    return Path("results") / (name if limit is None else f"{name}-first{limit}")


def keeps_delta(keep_deltas: KeepDeltas, method: Mapping[str, Any]) -> bool:
    """Whether a delta stays beside its record: those that store masks and the head alone are small."""
    masks_alone = method.get("kind") == "supermask" and not method.get("train")
    return keep_deltas == "all" or (keep_deltas == "masks" and masks_alone)


def measures_path(record: Path) -> Path:
    """Where the measures of a record are."""
    return record.with_name(record.name.removesuffix(".json") + _MEASURES)


def delta_path(record: Path) -> Path:
    """Where the delta of a record is, if it is kept."""
    return record.with_name(record.name.removesuffix(".json") + ".delta.safetensors")


def pair_path(first: str, second: str) -> str:
    """Where the measures of two records are, relative to the store.

    Example:
        >>> pair_path("mrpc/supermask-seed0.json", "rte/supermask-seed0.json")
        'pairs/mrpc-supermask-seed0--rte-supermask-seed0.json'
    """
    names = (path.removesuffix(".json").replace("/", "-") for path in (first, second))
    return f"{_PAIRS}/{'--'.join(names)}.json"
