"""The typed result of one run, with everything needed to say what it is a result of."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, final

from pydantic import Field, ValidationError

from supermask.atomic import write_atomically
from supermask.configuration import Configuration, describe_faults
from supermask.errors import DataError
from supermask.settings import TrainingConfig
from supermask.training.provenance import Environment

__all__ = ["BaseInfo", "DataInfo", "DeltaInfo", "RunInputs", "RunRecord", "Spread", "differing_inputs", "spread"]


@final
class BaseInfo(Configuration):
    """Which base: where it came from, and the fingerprint that identifies it."""

    name: str | None
    revision: str | None
    architecture: str
    fingerprint: str
    parameters: int


@final
class DataInfo(Configuration):
    """One split as it was used: how many examples, from where, and the hash of their content."""

    examples: int
    source: str
    content_hash: str
    official_size: int | None = None

    @property
    def is_subset(self) -> bool:
        """Whether this is known to be another number of examples than the official split has."""
        return self.official_size is not None and self.official_size != self.examples


@final
class RunInputs(Configuration):
    """All that a run is a function of, but for the code and the machine."""

    base: BaseInfo
    task: str
    task_version: int
    data: dict[str, DataInfo]
    method: dict[str, Any]
    config: TrainingConfig


@final
class Spread(Configuration):
    """Repeated measurements of one number: mean, sample standard deviation, and the values."""

    mean: float
    sd: float
    values: tuple[float, ...]


@final
class DeltaInfo(Configuration):
    """The learnt delta: its zeros among the weights that were masked or pruned, and its size on disk."""

    zeros: int
    constrained_weights: int
    sparsity: float
    bytes: int


@final
class RunRecord(Configuration):
    """What came of one run.

    Args:
        schema_version: of this record's layout.
        status: whether the run went through.
        error: what stopped it, if it failed.
        inputs: what was trained on what, how.
        environment: code and machine.
        precision: arithmetic that was used, `auto` resolved.
        processes: that shared the work; the environment is the first one's.
        started: UTC time, ISO 8601.
        steps: optimizer steps.
        train_seconds: wall-clock time of training; of a resumed run, since it was resumed.
        evaluation_seconds: wall-clock time of evaluation.
        head_at_base_rate: whether the head's bias started at the base rate of the labels.
        scores: split to metric to score, as fractions, of the task model that the delta makes (for a supermask:
            thresholded).
        sampled_scores: the same of masks drawn at random, for methods that sample.
        sampled_sparsity: expected fraction of zeros in a draw, for methods that sample.
        delta: the learnt delta.
        log: losses and statistics over the steps.
    """

    schema_version: Literal[1] = 1
    status: Literal["completed", "failed"]
    error: str | None = None
    inputs: RunInputs
    environment: Environment
    precision: str
    processes: int = 1
    started: str
    steps: int
    train_seconds: float
    evaluation_seconds: float = 0.0
    head_at_base_rate: bool = False
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)
    sampled_scores: dict[str, dict[str, Spread]] = Field(default_factory=dict)
    sampled_sparsity: float | None = None
    delta: DeltaInfo | None = None
    log: tuple[dict[str, float], ...] = ()

    def save(self, path: Path) -> None:
        """Write the record as JSON, whole or not at all."""
        write_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> RunRecord:
        """Read a record.

        Raises:
            DataError: if the file is missing, no JSON, or no record.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise DataError(f"{path}: is no run record: {describe_faults(cls, error)}") from None


def spread(rows: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Mean and sample standard deviation of every metric over repeated measurements.

    Args:
        rows: metric to score, one row a measurement.

    Example:
        >>> spread([{"f1": 0.5}, {"f1": 0.7}])["f1"].mean
        0.6
    """
    result = {}
    for metric in rows[0] if rows else ():
        values = [row[metric] for row in rows]
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        result[metric] = Spread(mean=statistics.fmean(values), sd=sd, values=tuple(values))
    return result


def differing_inputs(first: RunInputs, second: RunInputs) -> list[str]:
    """The fields in which two runs' inputs differ, as dotted names; an empty list if they are the same."""
    return sorted(_differences(json.loads(first.model_dump_json()), json.loads(second.model_dump_json()), ""))


def _differences(first: Any, second: Any, where: str) -> list[str]:
    if isinstance(first, dict) and isinstance(second, dict):
        found = []
        for name in sorted(first.keys() | second.keys()):
            found += _differences(first.get(name), second.get(name), f"{where}.{name}" if where else name)
        return found
    return [] if first == second else [where]
