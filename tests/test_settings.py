import pytest

from supermask.errors import ConfigurationError
from supermask.settings import TrainingConfig


def test_the_defaults_are_the_papers() -> None:
    config = TrainingConfig()
    assert (config.learning_rate, config.batch_size, config.epochs) == (2e-5, 32, 3)
    assert (config.warmup, config.weight_decay, config.max_grad_norm, config.max_length) == (0.1, 0.01, 1.0, 128)


def test_accumulation_must_divide_the_batch() -> None:
    with pytest.raises(ConfigurationError, match="does not divide"):
        TrainingConfig(batch_size=32, gradient_accumulation=5)
