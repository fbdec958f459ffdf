import pytest
import torch
from transformers import TrainingArguments

import supermask
from supermask import Freezing, Method, Supermask, TrainingConfig
from supermask.errors import ConfigurationError
from supermask.methods import gradient_norms
from supermask.methods import optimizer as method_optimizer
from tiny_models import NO_DROPOUT, tiny_model
from tiny_tasks import tiny_data, tiny_run


def run(method: Method, config: TrainingConfig, *, architecture: str = "bert") -> supermask.Run:
    """11 examples: with a batch of 4, the last one has 3."""
    model = tiny_model(architecture, **(NO_DROPOUT if architecture == "bert" else {}))
    return tiny_run(method, config, model=model, data=tiny_data(train=11, dev=4))


# BERT computes its loss itself; Llama's goes by the Trainer's count of items, if it is given one.
@pytest.mark.parametrize(("architecture", "accumulation"), [("bert", 4), ("llama", 2)])
def test_accumulated_micro_batches_are_the_batch(architecture: str, accumulation: int) -> None:
    whole, split = (
        run(
            Freezing(),
            TrainingConfig(epochs=2, batch_size=4, gradient_accumulation=parts, logging_steps=1, learning_rate=1e-3),
            architecture=architecture,
        ).record
        for parts in (1, accumulation)
    )
    assert whole.steps == split.steps == 6
    for ours, theirs in zip(whole.log, split.log, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def test_norms_are_measured_once_a_step_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    measure = gradient_norms.gradient_norm
    monkeypatch.setattr(method_optimizer, "gradient_norm", lambda found: calls.append(None) or measure(found))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_, **__: pytest.fail("measured again"))
    record = run(Supermask(), TrainingConfig(max_steps=2, batch_size=4, logging_steps=1)).record
    assert len(calls) == 2 * 2  # of mask logits and of all else, in two steps
    assert all(row["grad_norm"] > 0 for row in record.log)


def test_several_gpus_in_one_process_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ConfigurationError, match=r"sees 2 GPUs .*accelerate launch --multi_gpu -m supermask train"):
        run(Supermask(), TrainingConfig(max_steps=1, batch_size=4))


def test_masks_for_each_process_need_a_method_that_draws() -> None:
    with pytest.raises(ConfigurationError, match=r"mask_draws='per_rank' .* freezing does not"):
        run(Freezing(), TrainingConfig(max_steps=1, mask_draws="per_rank"))
