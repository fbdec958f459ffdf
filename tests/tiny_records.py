"""Records, measures and pairs that no training made, shaped like those of real runs; numbers come from labels."""

import bisect
import json
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from supermask.analysis import MAGNITUDE_BINS, MagnitudePruning, Magnitudes
from supermask.configuration import Configuration
from supermask.report.results import StudyResults, collect
from supermask.report.tables import Table, TableCell
from supermask.study import RunSpec, Study, load_study, runs_of
from supermask.study.measures import PairMeasures, PairTensor, RunMeasures, TensorMeasures
from supermask.study.records import RecordStore, measures_path, pair_path
from supermask.tasks import find_task
from supermask.training import RunRecord
from supermask.training.provenance import Environment
from supermask.training.record import BaseInfo, DataInfo, DeltaInfo, RunInputs, spread

BLOCKS, HIDDEN = 6, 384
ROLES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
WEIGHTS = {"ffn_in": 4 * HIDDEN * HIDDEN, "ffn_out": 4 * HIDDEN * HIDDEN}
MASKED = BLOCKS * 12 * HIDDEN * HIDDEN + HIDDEN * HIDDEN
FINGERPRINT = "ab" * 32
BASE = BaseInfo(name="minilm-l6", revision=None, architecture="Tiny", fingerprint=FINGERPRINT, parameters=22_713_986)
CODE = {"supermask": "0.1.0", "source": "0123456789abcdef"}
MACHINE = {"platform": "Linux x86_64", "device": "a processor", "cores": 2, "threads": 1}
ENVIRONMENT = Environment(**CODE, python="3.11.7", torch="2.13.0", transformers="5.23.0", **MACHINE)
BASELINE = {"mnli": 0.81, "qqp": 0.86, "qnli": 0.88, "sst2": 0.91, "cola": 0.4, "stsb": 0.86, "mrpc": 0.87, "rte": 0.6}
LEARNT = {"mnli": 0.129, "qqp": 0.126, "qnli": 0.103, "sst2": 0.074, "cola": 0.029, "stsb": 0.022, "mrpc": 0.013}


def tiny_record(run: RunSpec, *, status: str = "completed", subset: bool = False) -> RunRecord:
    """A record that answers a run."""
    task = find_task(run.task)
    noise = random.Random(f"{run.task}/{run.label}")
    sampled, zeros, expected = _sparsities(run)
    level = _level(run, zeros) + noise.gauss(0, 0.004)
    splits = (task.train_split, *task.report_splits)
    sizes = {split: task.expected_sizes.get(split, 400) for split in splits}
    examples = sizes[task.train_split] // (40 if subset else 1)
    done = status == "completed"
    scores = {split: {metric: _clipped(level) for metric in task.metrics} for split in task.report_splits}
    draws = [{metric: _clipped(level + noise.gauss(0, 0.005)) for metric in task.metrics} for _ in range(run.draws)]
    masked = 0 if run.method["kind"] == "freezing" else MASKED
    delta = DeltaInfo(zeros=int(zeros * masked), constrained_weights=masked, sparsity=zeros, bytes=180_000)
    return RunRecord(
        status=status,
        error=None if done else "RuntimeError: the loss is not finite",
        inputs=RunInputs(
            base=BASE,
            task=run.task,
            task_version=task.version,
            data={
                split: DataInfo(
                    examples=examples if split == task.train_split else size,
                    source=f"glue/{run.task}/{split}.tsv",
                    content_hash=f"{split}-{run.task}",
                    official_size=size,
                )
                for split, size in sizes.items()
            },
            method=run.method,
            config=run.config,
        ),
        environment=ENVIRONMENT,
        precision="bf16",
        started=f"2026-01-01T00:00:{run.seed:02d}+00:00",
        steps=3 * -(-examples // 32),
        train_seconds=100.0,
        evaluation_seconds=10.0,
        scores=scores if done else {},
        sampled_scores={split: spread(draws) for split in task.report_splits} if done and sampled else {},
        sampled_sparsity=expected if sampled and done else None,
        delta=delta if done else None,
    )


def tiny_measures(run: RunSpec) -> RunMeasures:
    """Measures of a run's delta, were there one."""
    masks = run.method["kind"] != "freezing"
    _, sparsity, _ = _sparsities(run)
    task = find_task(run.task)
    examples = task.expected_sizes.get(task.train_split, 1000)
    noise = random.Random(f"{run.task}/{run.label}/measures")
    excluded = set(run.method.get("exclude", ()))
    tensors = []
    for block in range(BLOCKS):
        for index, role in enumerate(ROLES):
            weights = WEIGHTS.get(role, HIDDEN * HIDDEN)
            if role in excluded or ("top-2-blocks" in excluded and block >= BLOCKS - 2) or "encoder" in excluded:
                continue
            share = min(1.0, sparsity * (1.5 - block / BLOCKS) * (1.3 if role in ("query", "key", "ffn_in") else 0.7))
            far = (3 * -(-examples // 32)) ** 0.5 / 60 * (0.4 + 0.1 * block + 0.1 * index) * noise.uniform(0.9, 1.1)
            tensors.append(
                TensorMeasures(
                    name=f"encoder.layer.{block}.{role}.weight",
                    role=role,
                    block=block,
                    shape=(HIDDEN, weights // HIDDEN),
                    changed=int(share * weights) if masks else weights,
                    zeros=int(share * weights) if masks else None,
                    l1=far,
                    largest_column_sum=far * 3,
                    largest_row_sum=far * 4,
                    angular=far / 80 * (1.3 - 0.05 * block),
                    zeroed_max=1.5 if masks else None,
                    zeroed_mean=0.035 if masks else None,
                )
            )
    zeros = sum(tensor.zeros or 0 for tensor in tensors)
    smallest = _magnitudes(zeros, 0.06 * sparsity, 0.03 * sparsity)
    scopes = ("global", "tensor")
    pruned = tuple(MagnitudePruning(scope=scope, pruned=smallest, shared=int(0.05 * zeros)) for scope in scopes)
    return RunMeasures(
        task=run.task,
        method=run.method,
        seed=run.seed,
        delta="d" * 16,
        base=FINGERPRINT,
        base_name="minilm-l6",
        **CODE,
        tensors=tuple(tensors),
        zeroed=_magnitudes(zeros, 1.7, 0.035) if masks else None,
        masked=_magnitudes(MASKED, 1.9, 0.04) if masks else None,
        magnitude_pruning=pruned if masks else (),
    )


def tiny_pair(first: RunSpec, second: RunSpec, *, ratio: float = 1.1) -> PairMeasures:
    """The zeros that two runs' masks share: `ratio` times chance."""
    tensors = []
    of_second = {tensor.name: tensor for tensor in tiny_measures(second).tensors}
    for tensor in tiny_measures(first).tensors:
        weights, zeros, others = math.prod(tensor.shape), tensor.zeros or 0, of_second[tensor.name].zeros or 0
        tensors.append(
            PairTensor(
                name=tensor.name,
                role=tensor.role,
                block=tensor.block,
                weights=weights,
                first_zeros=zeros,
                second_zeros=others,
                shared=int(ratio * zeros * others / weights),
                expected_given_rows_and_columns=1.05 * zeros * others / weights,
            )
        )
    return PairMeasures(
        first=f"{first.task}/{first.label}",
        second=f"{second.task}/{second.label}",
        first_delta="d" * 16,
        second_delta="e" * 16,
        base=FINGERPRINT,
        **CODE,
        tensors=tuple(tensors),
    )


def fill(
    folder: Path,
    studies: Iterable[Study],
    *,
    leave_out: Callable[[RunSpec], bool] = lambda run: False,
    change: Callable[[RunSpec, RunRecord], RunRecord] = lambda run, record: record,
    measured: bool = True,
) -> int:
    """Write records of all runs of some studies, but those to leave out, as a store has them; how many there are."""
    written: dict[str, RunSpec] = {}
    for study in studies:
        for run in runs_of(study):
            if not leave_out(run):
                written.setdefault(f"{run.task}/{run.label}.json", run)
    for path, run in written.items():
        place = folder / path
        _write(place, change(run, tiny_record(run, subset=run.task in ("mnli", "qqp"))))
        if measured:
            _write(measures_path(place), tiny_measures(run))
    masks = {path: run for path, run in written.items() if run.arm == "supermask" and run.seed == 0}
    for first in sorted(masks) if measured else ():
        for second in sorted(masks):
            if first < second:
                _write(folder / pair_path(first, second), tiny_pair(masks[first], masks[second]))
    return len(written)


def _write(path: Path, content: Configuration) -> None:
    # Not by `save`, which waits for the disk every time.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content.model_dump_json(), encoding="utf-8")


def results_of(name: str, folder: Path) -> StudyResults:
    """What a folder has of a study of the package."""
    return collect(load_study(name), RecordStore(folder))


def raw(folder: Path, path: str) -> Any:
    """What a JSON file of a folder says."""
    return json.loads((folder / f"{path}.json").read_text(encoding="utf-8"))


def primary(record: Any, field: str = "scores") -> Any:
    """The primary metric of a record's JSON on its first report split."""
    task = find_task(record["inputs"]["task"])
    return record[field][task.report_splits[0]][task.primary_metric]


def placed(table: Table, row: str, column: str) -> TableCell:
    """The cell of a table in a row and a column, by their keys."""
    return next(found for r, c, found in table.placed() if (r.key, c.key) == (row, column))


def scored(record: RunRecord, value: float) -> RunRecord:
    """The record with every score, and that of every draw, at one value."""
    draws = {
        split: {
            name: one.model_copy(update={"values": (value,) * 10, "mean": value, "sd": 0.0}) for name, one in of.items()
        }
        for split, of in record.sampled_scores.items()
    }
    scores = {split: dict.fromkeys(of, value) for split, of in record.scores.items()}
    return record.model_copy(update={"scores": scores, "sampled_scores": draws})


def _sparsities(run: RunSpec) -> tuple[bool, float, float]:
    """Whether the run samples; its thresholded or pruned zeros; its expected sampled zeros."""
    kind = run.method["kind"]
    if kind == "freezing":
        return False, 0.0, 0.0
    if kind == "pruning":
        return False, run.method["sparsity"], 0.0
    initial = run.method["initial_sparsity"]
    learnt = LEARNT.get(run.task, 0.01) * min(1.0, run.method["learning_rate"] / 0.2)
    zeros = initial + (1 - initial) * learnt - initial * learnt
    return True, zeros, zeros * 0.9933 + (1 - zeros) * 0.0067


def _level(run: RunSpec, zeros: float) -> float:
    best = BASELINE.get(run.task, 0.8)
    if run.method["kind"] == "freezing":
        return 0.812 if run.method.get("exclude") == ["encoder"] else best
    return best - 0.01 - 0.4 * max(0.0, zeros - 0.4)


def _clipped(value: float) -> float:
    return min(1.0, max(0.0, value))


def _magnitudes(weights: int, largest: float, mean: float) -> Magnitudes:
    counts = [0] * (len(MAGNITUDE_BINS) + 1)
    noise = random.Random(f"{weights}/{largest}")
    for _ in range(1000 if weights else 0):
        value = min(largest, abs(noise.gauss(0, 1.25 * mean)))
        counts[bisect.bisect_right(MAGNITUDE_BINS, value)] += weights // 1000
    return Magnitudes(
        weights=sum(counts), max=largest if weights else 0.0, mean=mean if weights else 0.0, histogram=tuple(counts)
    )
