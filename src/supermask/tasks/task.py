"""What a task is, and a task together with its examples: frozen values that every other part of the package reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.tasks.examples import Examples
from supermask.tasks.kinds import LABEL_KINDS, Labels

__all__ = ["VALIDATION_SPLIT", "Examples", "Task", "TaskData"]

VALIDATION_SPLIT: Final = "validation"


@final
@dataclass(frozen=True)
class Task:
    """What there is to learn, without the examples: labels, metrics, and the names of the splits.

    Args:
        name: the task's name, for example `mrpc`.
        kind: what an example's label is: one of several classes (`classification`), or a number (`regression`).
        label_names: the classes in the order of the model's outputs; empty for regression.
        metrics: names of the metrics that `score` computes, the primary one first.
        paired: whether an example is two sentences rather than one.
        title: the task in words, for tables.
        version: number of this row of data; it rises when the same files would be read differently.
        train_split: the split that a method learns from.
        report_splits: the labelled splits on which scores are reported, in order.
        test_splits: the splits without labels, to be predicted.
        expected_sizes: number of examples of the official splits, for those that have one.
        score_range: smallest and largest label of a regression task where they are known.
        submission_files: test split to the file name that the benchmark's server expects.
        submission_labels: the text of every class in a submission, in the order of `label_names`.

    Raises:
        ConfigurationError: the values contradict each other.

    Example:
        >>> task = Task(name="mood", kind="classification", label_names=("bad", "good"), metrics=("accuracy", "f1"))
        >>> task.num_labels, task.primary_metric
        (2, 'accuracy')
    """

    name: str
    kind: str
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    paired: bool = False
    title: str = ""
    version: int = 1
    train_split: str = "train"
    report_splits: tuple[str, ...] = ("dev",)
    test_splits: tuple[str, ...] = ()
    expected_sizes: Mapping[str, int] = field(default_factory=dict, hash=False)
    score_range: tuple[float, float] | None = None
    submission_files: Mapping[str, str] = field(default_factory=dict, hash=False)
    submission_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        faults = list(_task_faults(self))
        if faults:
            raise ConfigurationError(f"task {self.name!r}: " + "; ".join(faults))
        # Copies, so that a caller who keeps the mapping cannot change the task.
        object.__setattr__(self, "expected_sizes", dict(self.expected_sizes))
        object.__setattr__(self, "submission_files", dict(self.submission_files))

    @property
    def num_labels(self) -> int:
        """Number of outputs of the head: one a class, or one for regression."""
        return len(self.label_names) or 1

    @property
    def labels(self) -> Labels:
        """What the labels are, by the task's kind."""
        return LABEL_KINDS[self.kind](
            names=self.label_names, score_range=self.score_range, texts=self.submission_labels
        )

    @property
    def regression(self) -> bool:
        """Whether the label is a number."""
        return self.kind == "regression"

    @property
    def primary_metric(self) -> str:
        """The metric that stands for the task in a table."""
        return self.metrics[0]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of all splits: train, then those reported, then those without labels."""
        return (self.train_split, *self.report_splits, *self.test_splits)


def _task_faults(task: Task) -> list[str]:
    faults = []
    if not task.name:
        faults.append("the name is empty")
    if task.kind not in LABEL_KINDS:
        return [*faults, f"kind {task.kind!r} is neither {' nor '.join(map(repr, LABEL_KINDS))}"]
    faults += task.labels.faults(task.metrics)
    unknown = [name for name in task.metrics if name not in task.labels.metrics]
    if unknown:
        faults.append(f"metrics {unknown} are not of a {task.kind} task; there are: {', '.join(task.labels.metrics)}")
    if not task.metrics or len(set(task.metrics)) != len(task.metrics):
        faults.append(f"metrics must be at least one and distinct, received {list(task.metrics)}")
    if len(set(task.splits)) != len(task.splits):
        faults.append(f"a split is named twice: {list(task.splits)}")
    if task.submission_labels and len(task.submission_labels) != len(task.label_names):
        faults.append(f"{len(task.submission_labels)} submission labels for {len(task.label_names)} labels")
    return faults


@final
@dataclass(frozen=True)
class TaskData:
    """A task with its examples, split by split.

    Args:
        task: what there is to learn.
        splits: name of a split to its examples; a split that was not loaded is absent.

    Raises:
        ConfigurationError: examples do not fit the task (pairs for single sentences, labels outside the set ...).

    Example:
        >>> task = Task(name="mood", kind="classification", label_names=("bad", "good"), metrics=("accuracy",))
        >>> rows = Examples(("fine", "dull"), None, (1, 0), ("0", "1"), source="by hand")
        >>> data = TaskData(task, {"train": rows})
        >>> len(data.train), list(data.report)
        (2, [])
    """

    task: Task
    splits: Mapping[str, Examples] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", dict(self.splits))
        for split, examples in self.splits.items():
            fault = _misfit(self.task, split, examples)
            if fault:
                raise ConfigurationError(f"split {split!r} of task {self.task.name!r}: {fault}")

    def __getitem__(self, split: str) -> Examples:
        if split not in self.splits:
            loaded = ", ".join(self.splits) or "none"
            raise UnknownNameError(f"task {self.task.name!r} has no split {split!r} here; loaded are: {loaded}")
        return self.splits[split]

    def __contains__(self, split: object) -> bool:
        return split in self.splits

    @property
    def train(self) -> Examples:
        """The examples that a method learns from."""
        return self[self.task.train_split]

    @property
    def report(self) -> dict[str, Examples]:
        """The loaded splits on which scores are reported, in the task's order."""
        return {split: self.splits[split] for split in self.task.report_splits if split in self.splits}

    @property
    def test(self) -> dict[str, Examples]:
        """The loaded splits that are to be predicted, in the task's order."""
        return {split: self.splits[split] for split in self.task.test_splits if split in self.splits}

    @property
    def content_hashes(self) -> dict[str, str]:
        """The `Examples.content_hash` of every loaded split."""
        return {split: examples.content_hash for split, examples in self.splits.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of a score must know: splits of other than the official size, and rows left out.

        A score on a subset is a score on a subset; whoever shows it prints these sentences beside it.
        """
        notes = []
        for split, examples in self.splits.items():
            official = self.task.expected_sizes.get(split)
            if official is not None and official != len(examples):
                notes.append(f"{self.task.name} {split}: {len(examples)} examples, the official split has {official}")
            notes += [f"{self.task.name} {split}: {reason}" for reason in examples.skip_reasons]
        return tuple(notes)

    def with_split(self, split: str, examples: Examples) -> TaskData:
        """The same data with one split replaced or added.

        Args:
            split: name of the split, one of `task.splits`.
            examples: its new examples.

        Raises:
            UnknownNameError: the task has no such split.
        """
        if split not in self.task.splits:
            raise UnknownNameError(
                f"task {self.task.name!r} has no split {split!r}; splits are: {', '.join(self.task.splits)}"
            )
        return dataclasses.replace(self, splits={**self.splits, split: examples})

    def holdout(self, *, fraction: float | None = None, count: int | None = None, seed: int = 0) -> TaskData:
        """Data for tuning: the train split cut into `train` and `validation`, and nothing else.

        The official report splits are not in the result, so that no choice of a setting can look at them.

        Args:
            fraction: share of train held out, in (0, 1).
            count: number held out; give this or `fraction`.
            seed: which split.

        Returns:
            Data whose task reports on `validation`.

        Raises:
            ConfigurationError: see `Examples.holdout`.
        """
        kept, held_out = self.train.holdout(fraction=fraction, count=count, seed=seed)
        task = dataclasses.replace(
            self.task, report_splits=(VALIDATION_SPLIT,), test_splits=(), expected_sizes={}, submission_files={}
        )
        return TaskData(task, {task.train_split: kept, VALIDATION_SPLIT: held_out})


def _misfit(task: Task, split: str, examples: Examples) -> str | None:
    if split not in task.splits:
        return f"the task has no such split; splits are: {', '.join(task.splits)}"
    if len(examples) == 0:
        return "it has no examples"
    if (examples.second is not None) != task.paired:
        return f"the task is of {'pairs' if task.paired else 'single sentences'} and the examples are not"
    if examples.labels is None:
        return None if split in task.test_splits else "it has no labels"
    labels = task.labels
    for position, label in enumerate(examples.labels):
        if not labels.allows(label):
            return f"label {label!r} of example {position} is not {labels.law}"
    return None
