"""`supermask apply`; that the checkpoint is the task model is held by the end-to-end test of `train`."""

import json
from pathlib import Path

from tiny_command import call, refused, told


def test_json_names_the_files(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "model"
    document = told("apply", trained, "--output", output)
    assert document["output"] == str(output)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= document["files"].keys()
    assert document["files"]["model.safetensors"] == (output / "model.safetensors").stat().st_size


def test_taken_place_is_refused_and_left_alone(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    refused(call("apply", trained, "--output", tmp_path), str(tmp_path), "not empty", "name a new folder")
    refused(call("apply", trained, "--output", tmp_path / "note"), "no folder")
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_regression_delta(regression: Path, tmp_path: Path) -> None:
    assert call("apply", regression, "--output", tmp_path / "model").exit_code == 0
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["problem_type"] == "regression"
