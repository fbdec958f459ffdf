import math
from typing import Any

import pytest
import torch

from supermask.models import load_base
from supermask.prediction import KINDS, Kind, kind_of
from supermask.tasks import Task
from supermask.tasks.kinds import LABEL_KINDS, Labels
from tiny_bases import save_tiny_base

CLASSES = Task(name="mood", kind="classification", label_names=("bad", "good", "fair"), metrics=("accuracy",))
NUMBER = Task(name="grade", kind="regression", label_names=(), metrics=("spearman",))


def test_every_kind_of_labels_has_a_kind_of_model_and_is_found_by_its_name() -> None:
    assert list(KINDS) == list(LABEL_KINDS)
    assert {type(kind) for kind in KINDS.values()} == set(Kind.__subclasses__())
    assert set(LABEL_KINDS.values()) == set(Labels.__subclasses__())
    assert all((KINDS[name].name, LABEL_KINDS[name].kind) == (name, name) for name in KINDS)


@pytest.mark.parametrize(
    ("task", "labels", "dtype", "logits", "values", "words", "answers"),
    [
        (
            *(CLASSES, (1, 0), torch.int64, [[0.0, math.log(2.0), 0.0], [3.0, -1.0, 1.0]], [1, 0], ["good", "bad"]),
            {"prediction": "good", "probabilities": {"bad": 0.25, "good": 0.5, "fair": 0.25}},
        ),
        (
            *(NUMBER, (2, 1.5), torch.float32, [[1.25], [-0.5]], [1.25, -0.5], ["1.250000", "-0.500000"]),
            {"prediction": 1.25},
        ),
    ],
)
def test_labels_go_in_and_answers_come_out(
    task: Task, labels: Any, dtype: torch.dtype, logits: Any, values: Any, words: Any, answers: Any
) -> None:
    kind = kind_of(task)
    assert torch.tensor(kind.encode_labels(labels)).dtype == dtype
    assert kind.decode(torch.tensor(logits)) == values
    assert kind.words(task, values) == words
    assert kind.answers(task, torch.tensor(logits))[0] == answers


@pytest.mark.parametrize(
    ("task", "problem"), [(CLASSES, "single_label_classification"), (NUMBER, "regression")], ids=("classes", "number")
)
def test_a_base_is_loaded_with_the_head_of_the_task(task: Task, problem: str, tmp_path: Any) -> None:
    model = load_base(save_tiny_base(tmp_path), **kind_of(task).head(task)).model
    assert (model.config.num_labels, model.config.problem_type) == (task.num_labels, problem)


def test_the_constant_answer_is_the_mean_or_the_log_frequencies() -> None:
    assert kind_of(NUMBER).constant_answer(NUMBER, [1.0, 2.0, 4.5]) == [2.5]
    outputs = kind_of(CLASSES).constant_answer(CLASSES, [0, 0, 0, 1])
    assert torch.tensor(outputs[:2]).exp().tolist() == pytest.approx([0.75, 0.25])
    assert outputs[2] == math.log(0.5 / 4), "a class that never occurs is counted half a time"
