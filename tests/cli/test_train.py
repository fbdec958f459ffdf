"""`supermask train`, and a task learnt, looked at, scored, used and merged from the command line alone."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import supermask as library
from supermask.cli.train_options import METHODS_IN_WORDS
from supermask.methods import METHODS, Pruning
from supermask.training import RunRecord, TrainingConfig
from tiny_command import Outcome, Place, call, command_of, said, told


def test_end_to_end(place: Place, trained: Path, tmp_path: Path) -> None:
    record = RunRecord.load(trained / "record.json")
    assert record.delta is not None
    assert record.delta.zeros > 0

    inspected = told("inspect", trained)
    assert inspected["zeros"] == record.delta.zeros
    assert inspected["bytes"] == record.delta.bytes == (trained / "delta" / "delta.safetensors").stat().st_size

    evaluated = told("evaluate", trained, "--file", place.dev, "--cpu")
    assert evaluated["scores"] == record.scores == evaluated["recorded_scores"]

    predicted = told("predict", trained, "--file", place.dev, "--cpu")
    wanted = [line.rpartition(",")[2] for line in place.dev.read_text().splitlines()[1:]]
    right = sum(row["prediction"] == label for row, label in zip(predicted["predictions"], wanted, strict=True))
    assert right / len(wanted) == record.scores["dev"]["accuracy"]

    merged = tmp_path / "merged"
    assert call("apply", trained, "--output", merged).exit_code == 0
    model = AutoModelForSequenceClassification.from_pretrained(merged)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    assert model.config.id2label == {0: "high", 1: "low"}
    base = library.load_base(place.base, num_labels=2)
    library.TaskDelta.load(trained / "delta").apply_(base.model)
    batch = tokenizer(["w1 w2 w3", "w40 w5 w100"], return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, base.model(**batch).logits)
        softmax = torch.softmax(model(**batch).logits.double(), dim=1)
    lines = call("predict", trained, "--sentence", "w1 w2 w3", "--sentence", "w40 w5 w100", "--json", "--cpu")
    for row, share in zip(json.loads(lines.stdout)["predictions"], softmax, strict=True):
        assert row["probabilities"] == {
            "high": pytest.approx(float(share[0]), abs=1e-5),
            "low": pytest.approx(float(share[1]), abs=1e-5),
        }


def test_folder_holds_delta_record_and_picture(trained: Path) -> None:
    assert sorted(path.name for path in trained.iterdir()) == ["delta", "inputs.json", "record.json", "zeros.png"]
    assert (trained / "zeros.png").read_bytes().startswith(b"\x89PNG")


def test_report_shows_scores_zeros_size_files_and_what_comes_next(training: tuple[Path, Outcome]) -> None:
    output, outcome = training
    record = RunRecord.load(output / "record.json")
    assert record.delta is not None
    for text in (
        "thresholded mask",
        "sampled, mean ± sd of 2",
        f"{100 * record.scores['dev']['accuracy']:.2f}",
        f"({record.delta.zeros:,} of {record.delta.constrained_weights:,} weights)",
        f"{record.delta.bytes:,} bytes",
        str(output / "zeros.png"),
        f"supermask inspect '{output}'",
    ):
        assert text in outcome.stdout


def test_settings_reach_the_run(place: Place, tmp_path: Path) -> None:
    pruning = (
        "--method",
        "pruning",
        "--sparsity",
        0.25,
        "--scope",
        "global",
        "--select",
        "value",
        "--select",
        "ffn_in",
    )
    schedule = ("--pruning-begin", 0, "--pruning-end", 1, "--pruning-period", 1, "--exclude", "block-0")
    training = ("--weight-decay", 0, "--seed", 3, "--gradient-accumulation", 2, "--head-bias", "as_loaded")
    document = told(*place.short_run(place.train, tmp_path / "run", *pruning, *schedule, *training))
    record = RunRecord.model_validate(document["record"])
    wanted = Pruning(
        sparsity=0.25, scope="global", select=("value", "ffn_in"), exclude=("block-0",), begin=0.0, end=1.0, period=1
    )
    assert record.inputs.method == json.loads(json.dumps(wanted.describe()))
    assert (record.inputs.config.weight_decay, record.inputs.config.seed) == (0.0, 3)
    assert record.inputs.config.head_bias == "as_loaded"
    assert record.delta is not None
    assert (record.delta.zeros, record.delta.constrained_weights) == (768, 3072)  # (32 + 64) * 32 weights of block 1
    assert "no labelled dev data" in document["notes"][0]


def test_a_mask_without_zeros_is_pointed_out(place: Place, tmp_path: Path) -> None:
    text = said(*place.short_run(place.train, tmp_path / "run", "--dev-file", place.dev, "--draws", 0))
    assert "thresholded 0.00 % (0 of 17,408 weights)" in text
    assert "note: no weight was switched off" in text
    assert "--mask-learning-rate" in text


def test_every_setting_of_the_library_has_an_option_that_tells_its_default() -> None:
    options = {option.name: option for option in command_of("train").params}
    renamed = {"train": "also_train", "learning_rate": "mask_learning_rate", "eps": "mask_eps"}
    renamed |= {name: f"pruning_{name}" for name in ("begin", "end", "period")}
    settings = dict(TrainingConfig.model_fields)
    for kind in METHODS.values():
        settings |= {renamed.get(name, name): field for name, field in kind.model_fields.items()}
    for name, field in settings.items():
        assert field.description
        default = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
        assert options[name].default in (None, False)  # so that what was not given is left to the library
        if default not in (None, "") and default is not False:
            assert options[name].help.endswith(f" [default: {default}]".replace("[", "\\["))
    assert set(METHODS_IN_WORDS) == {*METHODS, "full", "head-only"}


@pytest.mark.parametrize(
    ("option", "help"),
    [
        ("seed", "Of data order, dropout, mask draws and a new head. \\[default: 0]"),
        ("max_steps", "Stop after so many optimizer steps."),
        ("tensorboard", "Write logs for TensorBoard."),
        ("exclude", "Weights to leave as they are, such as key or top-2-blocks. Repeatable."),
        ("select", "Weights to mask or prune; supermask and pruning. Repeatable. \\[default: matrices, pooler]"),
        ("precision", "Arithmetic of both passes: auto, fp32, bf16 or fp16. \\[default: fp32]"),
        ("mask_eps", "Adam's epsilon for mask logits; supermask. \\[default: 1e-08]"),
    ],
)
def test_the_help_of_an_option_is_made_of_the_setting(option: str, help: str) -> None:
    options = {option.name: option for option in command_of("train").params}
    assert options[option].help == help


def test_validation_holds_out_part_of_train_and_leaves_dev_alone(paired: Path) -> None:
    record = RunRecord.load(paired / "record.json")
    assert {split: info.examples for split, info in record.inputs.data.items()} == {"train": 9, "validation": 3}
    assert set(record.scores) == {"validation"}


def test_values_alone_make_no_picture(paired: Path, regression: Path) -> None:
    assert not (paired / "zeros.png").exists()
    assert (regression / "zeros.png").exists()


def test_without_matplotlib_the_run_goes_on_without_a_picture(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    outcome = call(*place.train_arguments(tmp_path / "run"))
    assert outcome.exit_code == 0
    assert "no picture of the zeros" in outcome.stderr
    assert "supermask[figures]" in outcome.stderr
    assert "zeros.png" not in outcome.stdout


def test_json_overwrite_and_resume(place: Place, tmp_path: Path) -> None:
    output = tmp_path / "run"
    first = call(*(word for word in place.train_arguments(output, "--json") if word != "--quiet"))
    document = json.loads(first.stdout)  # one document, and progress goes to standard error
    assert RunRecord.model_validate(document["record"]).status == "completed"
    assert document["figure"] == str(output / "zeros.png")
    assert "loss" in first.stderr
    again = call(*place.train_arguments(output, "--json", "--resume"))
    assert json.loads(again.stdout) == json.loads(first.stdout)  # a complete run is not run again
    replaced = call(*place.short_run(place.train, output, "--method", "head-only", "--overwrite", "--json"))
    assert json.loads(replaced.stdout)["figure"] is None
    assert not (output / "zeros.png").exists()  # it was of the run that is gone
    assert library.TaskDelta.load(output / "delta").weights == 0


@pytest.mark.parametrize(("steps", "hint"), [(0, "--checkpoint-steps"), (1, "checkpoint-1 with the same command")])
def test_interrupt_says_how_to_go_on(
    steps: int, hint: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from supermask.methods.attachment import Attachment

    begin_step = Attachment.begin_step

    def interrupted(self: Attachment, step: int, micro_batch: int = 0) -> None:
        if step == 1:
            raise KeyboardInterrupt
        begin_step(self, step, micro_batch)

    arguments = place.train_arguments(tmp_path / "run", "--checkpoint-steps", steps)
    with monkeypatch.context() as patch:
        patch.setattr(Attachment, "begin_step", interrupted)
        outcome = call(*arguments)
    assert outcome.exit_code == 130
    assert outcome.stderr.startswith("stopped: ")
    assert hint in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1
    option = "--resume" if steps else "--overwrite"
    assert option in outcome.stderr
    finished = call(*arguments, option, "--json")
    assert finished.exit_code == 0, finished.stderr
    if steps:  # what was resumed is what one run would have made
        whole = call(*place.train_arguments(tmp_path / "whole", "--checkpoint-steps", steps, "--json"))
        assert json.loads(whole.stdout)["record"]["scores"] == json.loads(finished.stdout)["record"]["scores"]
        deltas = [library.TaskDelta.load(tmp_path / name / "delta") for name in ("run", "whole")]
        assert deltas[0] == deltas[1]
