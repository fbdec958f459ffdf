"""Scores of predictions, as fractions.

All values are fractions: in [0, 1] for accuracy and F1, in [-1, 1] for correlations. Tables that show percentages
multiply by 100. Where a metric is not defined it is 0.0: F1 without a positive prediction or label, and any correlation
with a constant.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from supermask.errors import DataError, MissingDependencyError
from supermask.tasks.task import Task

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["METRICS", "accuracy", "f1", "macro_f1", "matthews", "pearson", "score", "spearman"]


def accuracy(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The share of examples whose class is predicted, in [0, 1].

    Example:
        >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
        0.75
    """
    return float(np.mean(np.asarray(predictions) == np.asarray(labels)))


def f1(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The harmonic mean of precision and recall of class 1, in [0, 1]; 0.0 without a true positive.

    Example:
        >>> f1([1, 1, 1, 0], [1, 1, 0, 1])
        0.666...
    """
    return _sklearn("f1_score", labels, predictions, pos_label=1, zero_division=0.0)


def macro_f1(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The mean of the classes' F1 over the classes that are predicted or there, in [0, 1].

    Example:
        >>> macro_f1([0, 1, 2], [0, 1, 2])
        1.0
    """
    return _sklearn("f1_score", labels, predictions, average="macro", zero_division=0.0)


def matthews(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The Matthews correlation of predicted and true classes, in [-1, 1]; 0.0 where either is constant.

    Example:
        >>> matthews([0, 1, 1, 0], [0, 1, 1, 0]), matthews([1, 1, 1, 1], [0, 1, 1, 0])
        (1.0, 0.0)
    """
    return _sklearn("matthews_corrcoef", labels, predictions)


def spearman(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The correlation of the ranks (ties share their mean rank), in [-1, 1]; 0.0 where either is constant.

    Example:
        >>> spearman([1.0, 2.0, 30.0], [0.1, 0.2, 0.3])
        1.0
    """
    return _scipy("spearmanr", predictions, labels)


def pearson(predictions: ArrayLike, labels: ArrayLike) -> float:
    """The linear correlation, in [-1, 1]; 0.0 where either is constant.

    Example:
        >>> round(pearson([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]), 6)
        1.0
    """
    return _scipy("pearsonr", predictions, labels)


METRICS: Final[dict[str, Callable[[ArrayLike, ArrayLike], float]]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "spearman": spearman,
    "pearson": pearson,
}


def score(task: Task, predictions: ArrayLike, labels: ArrayLike | None) -> dict[str, float]:
    """Compute all metrics of a task.

    Args:
        task: the task; its `metrics` say which, the primary one first.
        predictions: class indices (n,) from 0 to `task.num_labels - 1`, or numbers (n,) for regression.
        labels: class indices or numbers (n,).

    Returns:
        Metric name to its value as a fraction, in the order of `task.metrics`.

    Raises:
        DataError: there are no labels, lengths differ or are 0, a class index is outside, or a number is not finite.
        MissingDependencyError: scikit-learn or scipy is not installed.

    Example:
        >>> from supermask.tasks import Task
        >>> task = Task(name="mood", kind="classification", label_names=("bad", "good"), metrics=("accuracy", "f1"))
        >>> score(task, [1, 1], [1, 1])
        {'accuracy': 1.0, 'f1': 1.0}
    """
    if labels is None:
        raise DataError(f"the task {task.name!r}: this split has no labels to score against; predict it instead")
    predicted, true = np.asarray(predictions), np.asarray(labels)
    if predicted.ndim != 1 or predicted.shape != true.shape or predicted.size == 0:
        raise DataError(
            f"the task {task.name!r}: predictions of shape {predicted.shape} and labels of shape {true.shape}; "
            "both must be (n,) with the same n of at least 1 (class indices, not logits)"
        )
    for what, values in (("predictions", predicted), ("labels", true)):
        if fault := task.labels.scoring_fault(what, values):
            raise DataError(f"the task {task.name!r}: {fault}")
    return {metric: METRICS[metric](predicted, true) for metric in task.metrics}


def _sklearn(function: str, labels: ArrayLike, predictions: ArrayLike, **options: Any) -> float:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise MissingDependencyError("this metric needs scikit-learn: pip install 'supermask[train]'") from error
    with warnings.catch_warnings():
        # A single class is a case with a defined result here, not something to warn of.
        warnings.simplefilter("ignore")
        value = getattr(sklearn.metrics, function)(np.asarray(labels), np.asarray(predictions), **options)
    return float(value)


def _scipy(function: str, predictions: ArrayLike, labels: ArrayLike) -> float:
    try:
        import scipy.stats
    except ImportError as error:
        raise MissingDependencyError("this metric needs scipy: pip install 'supermask[train]'") from error
    first, second = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return 0.0
    with warnings.catch_warnings():
        # scipy warns of inputs that are constant but for rounding; the value stands.
        warnings.simplefilter("ignore")
        value = float(getattr(scipy.stats, function)(first, second).statistic)
    return value if np.isfinite(value) else 0.0
