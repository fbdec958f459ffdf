import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

import supermask
from supermask import Freezing, Method, Pruning, Supermask, TaskDelta, TrainingConfig
from supermask.errors import ConfigurationError, DataError, OutputError, SelectionError
from supermask.methods import METHODS
from supermask.training import trainer as trainer_module
from tiny_models import ARCHITECTURES, tiny_model
from tiny_tasks import tiny_data, tiny_run, tiny_tokenizer

CONFIG = TrainingConfig(epochs=2, batch_size=4, head_learning_rate=1e-2, learning_rate=1e-2, logging_steps=1)
MASK = Supermask(learning_rate=3.0)


def run(
    folder: Path | None, method: Method = MASK, *, config: TrainingConfig = CONFIG, **options: Any
) -> supermask.Run:
    return tiny_run(method, config, output_dir=folder, **options)


def acting(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Have every training act right after the checkpoint of a step is written."""

    class AtSave(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                act()

    make = trainer_module.make_trainer

    def made(*args: Any, **kwargs: Any) -> Any:
        trainer = make(*args, **kwargs)
        trainer.add_callback(AtSave())
        return trainer

    monkeypatch.setattr(trainer_module, "make_trainer", made)


# Every method on BERT and every architecture with one of the methods, in turn; the rest takes a minute.
@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        pytest.param(kind, name, marks=() if name == "bert" or (row - column) % len(METHODS) == 0 else pytest.mark.slow)
        for row, name in enumerate(ARCHITECTURES)
        for column, kind in enumerate(METHODS)
    ],
)
def test_a_resumed_run_gives_the_same_delta(
    kind: str, architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = MASK if kind == "supermask" else METHODS[kind]()
    # 3 batches an epoch: the break falls within the second one.
    settings: dict[str, Any] = {
        "method": method,
        "config": CONFIG.model_copy(update={"checkpoint_steps": 4}),
        "data": tiny_data(train=11, dev=4),
    }
    with monkeypatch.context() as patch:
        # What a killed process leaves is what is on the disk then.
        acting(patch, 4, lambda: shutil.copytree(tmp_path / "whole", tmp_path / "cut"))
        whole = run(tmp_path / "whole", model=tiny_model(architecture), **settings)
    resumed = run(tmp_path / "cut", model=tiny_model(architecture), **settings, resume=True)
    assert resumed.record.steps == whole.record.steps == 6
    assert resumed.delta == whole.delta
    assert resumed.record.scores == whole.record.scores
    assert len(resumed.record.log) == 6
    assert not (tmp_path / "cut" / "checkpoints").exists()


@pytest.mark.parametrize(
    "settings",
    [{"gradient_accumulation": 2, "gradient_checkpointing": True}, {"mask_optimizer_state": "8bit"}],
    ids=["accumulated", "8bit"],
)
def test_a_run_that_was_stopped_by_an_error_is_recorded_and_resumes_exactly(settings, tmp_path, monkeypatch):
    config = CONFIG.model_copy(update={"checkpoint_steps": 4, **settings})
    whole = run(tmp_path / "whole", config=config)
    assert whole.delta.zeros > 0
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        acting(patch, 4, lambda: 1 / 0)
        run(tmp_path / "cut", config=config)
    record = supermask.RunRecord.load(tmp_path / "cut" / "record.json")
    assert record.status == "failed" and "ZeroDivisionError" in (record.error or "")
    resumed = run(tmp_path / "cut", config=config, resume=True)
    assert resumed.record.status == "completed" and resumed.delta == whole.delta


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> supermask.Run:
    """A run in a folder."""
    return run(tmp_path_factory.mktemp("runs") / "run", draws=2)


def test_the_model_comes_back_as_it_was() -> None:
    model = tiny_model("bert")
    model.train()
    model.bert.embeddings.dropout.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    config = CONFIG.model_copy(update={"max_steps": 1})
    run(None, config=config, model=model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_the_record_says_what_came_of_what(finished: supermask.Run) -> None:
    folder = finished.folder
    assert folder is not None
    record = supermask.RunRecord.load(folder / "record.json")
    assert record == finished.record
    assert (record.status, record.steps, record.head_at_base_rate) == ("completed", 12, True)
    assert record.inputs.method == {"kind": "supermask", **MASK.model_dump(mode="json")}
    assert record.inputs.data["train"].content_hash == tiny_data().train.content_hash
    assert record.inputs.base.fingerprint == finished.delta.base.digest
    assert record.inputs.base.parameters == sum(tensor.numel() for tensor in tiny_model("bert").parameters())
    assert record.delta is not None and record.delta.bytes == (folder / "delta/delta.safetensors").stat().st_size
    assert record.delta.constrained_weights == finished.delta.weights
    assert set(record.log[0]) >= {"loss", "sparsity", "sampled_sparsity", "step"}
    assert len(record.sampled_scores["dev"]["accuracy"].values) == 2


def test_scores_are_those_of_the_stored_delta(finished: supermask.Run) -> None:
    assert finished.folder is not None
    stored = TaskDelta.load(finished.folder / "delta")
    told = supermask.evaluate(
        tiny_model("bert"), task=tiny_data(), delta=stored, tokenizer=tiny_tokenizer(), use_cpu=True
    )
    assert told.scores == finished.record.scores


def test_gradient_checkpointing_replays_the_same_masks(finished: supermask.Run) -> None:
    # Dropout draws from the global generator, whose replay torch itself takes care of; the masks are ours.
    replayed = run(None, config=CONFIG.model_copy(update={"gradient_checkpointing": True}))
    base = tiny_model("bert")
    ours, theirs = finished.delta.changes_for(base), replayed.delta.changes_for(base)
    assert ours.keys() == theirs.keys()
    for name in ours:
        first, second = ours[name], theirs[name]
        assert type(first) is type(second)
        assert not hasattr(first, "keep") or torch.equal(first.keep, second.keep)


def test_a_finished_run_is_not_repeated_and_not_written_over(
    finished: supermask.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finished.folder is not None
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "make_trainer", lambda *_, **__: pytest.fail("trained again"))
        assert run(folder, resume=True).record == finished.record
        with pytest.raises(OutputError, match=r"already holds a run; .*resume.*overwrite"):
            run(folder)
        with pytest.raises(ConfigurationError, match=r"other inputs \(config.seed\)"):
            run(folder, config=CONFIG.model_copy(update={"seed": 1}), resume=True)
        (folder / "record.json").write_text("{")
        with pytest.raises(DataError, match=r"record\.json"):
            run(folder, resume=True)
    config = CONFIG.model_copy(update={"max_steps": 1, "tensorboard": True})
    assert run(folder, config=config, overwrite=True).record.steps == 1
    assert list(folder.rglob("events.out.tfevents.*"))


def test_no_step_means_no_zero_in_the_thresholded_mask() -> None:
    result = run(None, Supermask(learning_rate=0.0))
    assert result.delta.zeros == 0
    assert result.record.sampled_sparsity == pytest.approx(0.006693, abs=1e-5)


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_pruning_is_exact_to_one_weight(scope: Any) -> None:
    delta = run(None, Pruning(sparsity=0.37, scope=scope)).delta
    pruned = [(change.zeros, change.weights) for change in delta.document.changes if change.zeros is not None]
    assert all(zeros == int(0.37 * weights + 0.5) for zeros, weights in pruned) == (scope == "tensor")
    if scope == "global":
        assert delta.zeros == int(0.37 * delta.weights + 0.5)


@pytest.mark.parametrize("precision", ["bf16", "auto"])
def test_mixed_precision_keeps_mask_logits_in_float32(precision: Any) -> None:
    result = run(None, config=CONFIG.model_copy(update={"precision": precision}))
    assert result.record.precision in ("bf16", "fp32")
    assert result.delta.zeros > 0


def test_regression_starts_the_head_at_the_mean_of_the_labels() -> None:
    data = tiny_data(regression=True)
    result = run(None, Freezing.head_only(), data=data, config=TrainingConfig(head_learning_rate=0.0, max_steps=1))
    labels = data.train.labels or ()
    assert result.delta.changes_for({})["classifier.bias"].values.item() == pytest.approx(sum(labels) / len(labels))


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="not empty and holds no run"):
            run(tmp_path, **options)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_run_that_failed_before_its_first_checkpoint_begins_anew(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(trainer_module, "make_trainer", lambda *_, **__: 1 / 0)
        run(tmp_path / "run")
    assert run(tmp_path / "run", resume=True).record.status == "completed"


def test_too_little_space_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(trainer_module, "make_trainer", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(OutputError, match="MiB are free and the run needs"):
        run(tmp_path / "run")


@pytest.mark.parametrize(
    ("method", "labels", "error", "message"),
    [
        (Supermask(select="querry"), 2, SelectionError, "did you mean"),
        (Freezing(exclude="head"), 2, SelectionError, "always trained"),
        (Supermask(exclude="matrices", select="matrices"), 2, SelectionError, "nothing is left to mask"),
        (Pruning(select="norm"), 2, SelectionError, "only matrices"),
        (Supermask(train="query"), 2, SelectionError, "both to be masked and to train"),
        (MASK, 3, ConfigurationError, "head has 3 outputs and task 'tiny' needs 2"),
    ],
)
def test_methods_and_models_without_sense_are_errors(
    method: Method, labels: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(None, method, model=tiny_model("bert", num_labels=labels))
