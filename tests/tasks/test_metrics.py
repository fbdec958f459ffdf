import math
import random
import sys

import numpy as np
import pytest

from supermask.errors import DataError, MissingDependencyError
from supermask.tasks import Task, metrics, score

BINARY = Task(name="b", kind="classification", label_names=("no", "yes"), metrics=("f1", "accuracy", "matthews"))
THREE = Task(name="c", kind="classification", label_names=("x", "y", "z"), metrics=("accuracy", "macro_f1"))
GRADED = Task(name="r", kind="regression", label_names=(), metrics=("spearman", "pearson"))


def counts(predictions, labels):
    pairs = list(zip(predictions, labels, strict=True))
    return tuple(pairs.count(pair) for pair in ((1, 1), (1, 0), (0, 1), (0, 0)))


def mean_ranks(values):
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def correlation(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    cross = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return cross / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def test_binary_metrics_agree_with_their_definitions():
    draw = random.Random(5)
    labels = [draw.randrange(2) for _ in range(60)]
    predictions = [label if draw.random() < 0.7 else 1 - label for label in labels]
    tp, fp, fn, tn = counts(predictions, labels)
    assert metrics.accuracy(predictions, labels) == pytest.approx((tp + tn) / 60)
    assert metrics.f1(predictions, labels) == pytest.approx(2 * tp / (2 * tp + fp + fn))
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    assert metrics.matthews(predictions, labels) == pytest.approx((tp * tn - fp * fn) / math.sqrt(product))


def test_f1_is_of_class_one_and_not_symmetric_and_macro_f1_the_mean_over_classes():
    assert metrics.f1([1, 0, 0, 0], [1, 1, 0, 0]) == pytest.approx(2 / 3)
    assert metrics.f1([0, 1, 1, 1], [0, 0, 1, 1]) == pytest.approx(4 / 5)
    assert metrics.f1([0, 0], [0, 0]) == metrics.f1([0, 0], [1, 0]) == 0.0, "without positives"
    # per class: x 2*1/(2*1+0+1), y 2*1/(2*1+1+0), z 1
    assert metrics.macro_f1([0, 1, 1, 2], [0, 0, 1, 2]) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_correlations_agree_with_their_definitions_ties_included():
    draw = random.Random(6)
    labels = [draw.randrange(6) / 2 for _ in range(40)]
    predictions = [round(label + draw.gauss(0, 1), 1) for label in labels]
    assert metrics.pearson(predictions, labels) == pytest.approx(correlation(predictions, labels))
    assert metrics.spearman(predictions, labels) == pytest.approx(
        correlation(mean_ranks(predictions), mean_ranks(labels))
    )


@pytest.mark.parametrize("name", ["matthews", "spearman", "pearson"])
def test_a_constant_has_no_correlation(name):
    for predictions, labels in (([1, 1, 1], [0, 1, 1]), ([0, 1, 1], [1, 1, 1]), ([1, 1, 1], [1, 1, 1]), ([1], [0])):
        assert metrics.METRICS[name](predictions, labels) == 0.0


def test_a_prediction_that_is_constant_but_for_rounding_does_not_warn():
    assert -1.0 <= metrics.pearson([1e9, 1e9 + 1e-7, 1e9], [1.0, 2.0, 3.0]) <= 1.0


def test_score_gives_the_tasks_metrics_in_order():
    assert score(BINARY, [1, 0, 1], [1, 0, 1]) == {"f1": 1.0, "accuracy": 1.0, "matthews": 1.0}
    assert list(score(BINARY, [1, 0, 1], [1, 0, 1])) == ["f1", "accuracy", "matthews"]
    assert list(score(THREE, np.array([2, 0]), (2, 1))) == ["accuracy", "macro_f1"]
    assert score(GRADED, np.float32([0.1, 0.4, 0.2]), (1.0, 5.0, 2.0))["spearman"] == pytest.approx(1.0)
    assert all(type(value) is float for value in score(BINARY, np.array([1, 0]), np.array([1, 1])).values())


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "message"),
    [
        (BINARY, [1, 0], None, "no labels"),
        (BINARY, [1, 0], [1], r"shape \(2,\) and labels of shape \(1,\)"),
        (BINARY, [], [], "at least 1"),
        (BINARY, [[0.1, 0.9]], [1], "not logits"),
        (BINARY, [2, 0], [1, 0], "class indices from 0 to 1, received int64 from 0 to 2"),
        (BINARY, [-1, 0], [1, 0], "from -1 to 0"),
        (BINARY, [0.2, 0.9], [1, 0], "class indices"),
        (BINARY, [0, 1], [0, 5], "labels must be class indices"),
        (GRADED, [0.1, float("nan")], [1.0, 2.0], "1 of 2 predictions are not finite"),
        (GRADED, [0.1, 0.2], [1.0, float("inf")], "1 of 2 labels are not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(task, predictions, labels, message):
    with pytest.raises(DataError, match=message):
        score(task, predictions, labels)


@pytest.mark.parametrize(("task", "library"), [(BINARY, "sklearn"), (GRADED, "scipy")])
def test_a_missing_library_is_named_with_its_extra(monkeypatch, task, library):
    for name in [name for name in sys.modules if name.split(".")[0] == library] or [library]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"supermask\[train\]"):
        score(task, [0, 1], [0, 1])
