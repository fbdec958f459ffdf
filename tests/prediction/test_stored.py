from pathlib import Path

import pytest

import supermask
from supermask import Freezing, TaskDelta, TrainingConfig
from supermask.deltas import TaskRecord
from supermask.errors import ConfigurationError, UnknownNameError
from supermask.prediction import stored_base, stored_task
from tiny_bases import save_tiny_base
from tiny_tasks import tiny_data, tiny_run


@pytest.fixture(scope="module")
def delta(tmp_path_factory: pytest.TempPathFactory) -> TaskDelta:
    data = tiny_data(regression=True)
    base = supermask.load_base(save_tiny_base(tmp_path_factory.mktemp("base")), num_labels=1, regression=True)
    return tiny_run(
        Freezing.head_only(), TrainingConfig(max_steps=1, seed=3), model=base, data=data, tokenizer=None
    ).delta


def test_task_and_base_are_as_they_were(delta: TaskDelta) -> None:
    task = stored_task(delta.document)
    learnt = tiny_data(regression=True).task
    assert (task.name, task.kind, task.metrics, task.paired) == (learnt.name, learnt.kind, learnt.metrics, False)
    base = stored_base(delta.document)
    assert base.model.config.problem_type == "regression"
    told = supermask.predict(base, tiny_data(regression=True)["dev"], task=task, delta=delta, use_cpu=True)
    assert len(told.values) == 12


def test_what_is_not_said_or_not_there_is_an_error_with_a_remedy(delta: TaskDelta, tmp_path: Path) -> None:
    document = delta.document
    for task, message in (
        (TaskRecord(name="tiny"), "does not say its task's kind, metrics"),
        (TaskRecord(name="t", kind="ranking", metrics=("ndcg",)), "'ranking' is neither"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            stored_task(document.model_copy(update={"task": task}))
    for name, error, message in (
        (None, ConfigurationError, r"does not name its base; .*base=\.\.\."),
        (str(tmp_path / "gone"), UnknownNameError, r"say where it is now .*base=\.\.\."),
    ):
        base = document.base.model_copy(update={"name": name})
        with pytest.raises(error, match=message):
            stored_base(document.model_copy(update={"base": base}))
