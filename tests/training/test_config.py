"""The settings of a training, and the step counts of the paper's Table 1."""

from __future__ import annotations

import pytest

from supermask.errors import ConfigurationError
from supermask.tasks import find_task
from supermask.training import TrainingConfig, optimizer_steps

TABLE_1 = {  # the paper's "fine-tuning iteration count"
    "mnli": 36816,
    "qqp": 34113,
    "qnli": 9822,
    "sst2": 6315,
    "cola": 804,
    "stsb": 540,
    "mrpc": 345,
    "rte": 234,
}


@pytest.mark.parametrize(("task", "steps"), TABLE_1.items())
def test_the_step_counts_are_those_of_table_1(task: str, steps: int) -> None:
    assert optimizer_steps(find_task(task).expected_sizes["train"], TrainingConfig()) == steps


def test_max_steps_overrides_epochs() -> None:
    assert optimizer_steps(1000, TrainingConfig(max_steps=7)) == 7


def test_the_defaults_are_the_papers() -> None:
    config = TrainingConfig()
    assert (config.learning_rate, config.batch_size, config.epochs) == (2e-5, 32, 3)
    assert (config.warmup, config.weight_decay, config.max_grad_norm, config.max_length) == (0.1, 0.01, 1.0, 128)


def test_all_faults_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        TrainingConfig(epochs=0, warmup=2.0, learning_rat=1.0)  # type: ignore[call-arg]
    message = str(caught.value)
    assert all(part in message for part in ("epochs", "warmup", "'learning_rat' is no setting"))


def test_accumulation_must_divide_the_batch() -> None:
    with pytest.raises(ConfigurationError, match="does not divide"):
        TrainingConfig(batch_size=32, gradient_accumulation=5)
