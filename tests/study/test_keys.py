from __future__ import annotations

from supermask.methods import Supermask
from supermask.study.keys import WITHOUT_EFFECT, address, run_key
from supermask.training import TrainingConfig

METHOD = Supermask().describe()


def test_every_setting_that_decides_the_result_changes_the_key() -> None:
    other = {"epochs": 2, "max_steps": 5, "batch_size": 16, "gradient_accumulation": 2, "learning_rate": 1e-4}
    other |= {"head_learning_rate": 1e-4, "head_bias": "as_loaded", "warmup": 0.2, "weight_decay": 0.0, "seed": 1}
    other |= {"adam_epsilon": 1e-8, "max_grad_norm": 0.0, "max_length": 64, "gradient_checkpointing": True}
    other |= {"mask_optimizer_state": "8bit", "mask_draws": "per_rank"}
    # Precision is compared by itself, as `auto` stands for another on each machine.
    assert {*other, *WITHOUT_EFFECT, "precision"} == set(TrainingConfig.model_fields)
    plain = run_key("mrpc", 1, METHOD, TrainingConfig())
    keys = {run_key("mrpc", 1, METHOD, TrainingConfig(**{name: value})) for name, value in other.items()}
    assert len(keys | {plain}) == len(other) + 1
    without = {"checkpoint_steps": 5, "logging_steps": 5, "eval_batch_size": 5, "tensorboard": True}
    assert set(without) == WITHOUT_EFFECT
    assert run_key("mrpc", 1, METHOD, TrainingConfig(**without)) == plain


def test_task_version_and_method_change_the_key() -> None:
    config = TrainingConfig()
    keys = {
        run_key("mrpc", 1, METHOD, config),
        run_key("rte", 1, METHOD, config),
        run_key("mrpc", 2, METHOD, config),
        run_key("mrpc", 1, Supermask(eps=1e-7).describe(), config),
    }
    assert len(keys) == 4


def test_everything_else_changes_the_address() -> None:
    plain = {
        "base_fingerprint": "a",
        "data": {"train": "1", "dev": "2"},
        "precision": "bf16",
        "draws": 10,
        "version": "1",
    }
    others = [
        *({"base_fingerprint": "b"}, {"data": {"train": "1", "dev": "3"}}, {"data": {"train": "1"}}),
        *({"precision": "fp32"}, {"draws": 9}, {"draws": None}, {"version": "2"}),
    ]
    names = {address("key", **{**plain, **other}) for other in [{}, *others]}
    assert len(names) == len(others) + 1
    assert address("key", **{**plain, "data": {"dev": "2", "train": "1"}}) == address("key", **plain)
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)


def test_the_key_of_the_default_run_stays_what_it_is() -> None:
    """Records are found by it, and folders of runs that were cut off are called by the address."""
    assert run_key("mrpc", 1, {"kind": "freezing", "exclude": []}, TrainingConfig()) == "e8420b9aac3f2a65"
