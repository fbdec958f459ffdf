"""`supermask export`: three forms of one task model."""

import json
from pathlib import Path

import pytest

from supermask.errors import MissingDependencyError
from tiny_command import Place, call, refused, told


def test_checkpoint_is_what_apply_writes(trained: Path, tmp_path: Path) -> None:
    assert call("apply", trained, "--output", tmp_path / "applied").exit_code == 0
    document = told("export", trained, "--output", tmp_path / "exported")
    assert document["format"] == "checkpoint"
    names = {path.name for path in (tmp_path / "applied").iterdir()}
    assert document["files"].keys() == names
    for name in names:
        assert (tmp_path / "applied" / name).read_bytes() == (tmp_path / "exported" / name).read_bytes()


def test_sparse_says_how_large_it_is(regression: Path, tmp_path: Path) -> None:
    from supermask import TaskDelta
    from supermask.interop import load_sparse_checkpoint

    output = tmp_path / "deep" / "model"
    outcome = call("export", regression, "--format", "sparse", "--output", output, "--json")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    document = json.loads(outcome.stdout)
    delta = TaskDelta.load(regression / "delta")
    assert document["delta"] == delta.digest
    assert document["task"]["name"] == delta.task.name
    assert 0.9 * delta.zeros < document["zeros"] <= document["weights"]
    assert document["nbytes"] == document["files"]["sparse_model.safetensors"]
    model = load_sparse_checkpoint(output)
    assert document["dense_nbytes"] == sum(4 * parameter.numel() for parameter in model.parameters())
    assert model.config.problem_type == "regression"
    told = call("export", regression, "--format", "sparse", "--output", tmp_path / "again").stdout.splitlines()
    share = 100 * document["nbytes"] / document["dense_nbytes"]
    assert f"{document['zeros']:,} zeros are kept as masks; {share:.2f}% of" in told[-2]
    assert "load_sparse_checkpoint" in told[-1]


@pytest.mark.slow
def test_onnx(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    outcome = call("export", trained, "--format", "onnx", "--output", tmp_path / "model", "--json")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    document = json.loads(outcome.stdout)
    assert document["inputs"][:2] == ["input_ids", "attention_mask"]
    assert document["opset"] >= 18
    assert 0 < document["largest_difference"] < 1e-4
    assert document["files"]["model.onnx"] == (tmp_path / "model" / "model.onnx").stat().st_size


def test_onnx_options_reach_the_library(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from supermask import interop

    def save(base: object, delta: object, folder: Path, **settings: object) -> interop.OnnxExport:
        assert settings == {"opset": 18, "verify": False}
        folder.mkdir()
        return interop.OnnxExport(folder=folder, inputs=("input_ids",), opset=18, largest_difference=None)

    monkeypatch.setattr(interop, "save_onnx", save)
    arguments = ("export", trained, "--format", "onnx", "--opset", 18, "--no-verify", "--output")
    assert "opset 18, inputs input_ids; not compared" in call(*arguments, tmp_path / "one").stdout
    assert told(*arguments, tmp_path / "two")["largest_difference"] is None


@pytest.mark.parametrize("form", ["checkpoint", "onnx", "sparse"])
def test_taken_place_is_refused_and_left_alone(form: str, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    arguments = ("export", trained, "--format", form, "--output")
    refused(call(*arguments, tmp_path), str(tmp_path), "not empty", "name a new folder")
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_bad_input_is_one_line(
    place: Place, trained: Path, paired: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ("--output", tmp_path / "model")
    refused(call("export", paired, "--format", "sparse", *output), "drops no weight", "save the merged checkpoint")
    refused(call("export", trained, "--format", "gguf", *output), "gguf", "checkpoint", "onnx", "sparse")
    refused(call("export", trained, "--opset", 18, *output), "--opset has no effect beside --format checkpoint")
    refused(call("export", trained, "--format", "sparse", "--no-verify", *output), "--no-verify has no effect")
    refused(call("export", trained), "--output")
    refused(call("export", tmp_path / "nowhere", *output), str(tmp_path / "nowhere"))
    for form in ("checkpoint", "sparse"):
        outcome = call("export", trained, "--format", form, "--base", place.other_base, *output)
        refused(outcome, "1 of", "differ", "query.weight")

    pytest.importorskip("onnxruntime")
    refused(call("export", trained, "--format", "onnx", "--opset", 9, *output), "opset 9 is outside 18 to")

    def missing(**asked: object) -> None:
        raise MissingDependencyError("exporting to ONNX needs onnx, which is not installed; run: pip install")

    monkeypatch.setattr("supermask.interop.onnx.require_onnx", missing)
    refused(call("export", trained, "--format", "onnx", *output), "needs onnx", "pip install")
    assert list(tmp_path.iterdir()) == []


def test_interrupted_export_leaves_nothing(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("supermask.interop.sparse_checkpoint.write_through", interrupt)
    outcome = call("export", trained, "--format", "sparse", "--output", tmp_path / "model")
    assert outcome.exit_code == 130
    assert outcome.stderr.startswith("stopped")
    assert list(tmp_path.iterdir()) == []
