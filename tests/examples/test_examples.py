"""The examples run, on a tiny base."""

import runpy
from pathlib import Path

import pytest

from supermask import TaskDelta
from tiny_bases import save_tiny_base

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_base(tmp_path_factory.mktemp("base") / "tiny"))


@pytest.mark.parametrize("example", ["own_loop", "own_trainer"])
def test_a_loop_of_your_own(example: str, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    delta = runpy.run_path(str(EXAMPLES / f"{example}.py"))["main"](base, steps=3)
    assert isinstance(delta, TaskDelta)
    assert delta.head == ("classifier.weight", "classifier.bias")
    if example == "own_trainer":
        assert delta.sparsity == pytest.approx(0.3, abs=1e-3)


def test_the_demo_proves_what_it_says(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = runpy.run_path(str(EXAMPLES / "demo.py"))["main"]
    arguments = ["--base", base, "--train-size", "64", "--epochs", "1", "--output", str(tmp_path / "demo")]
    assert demo(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("yes") == 3
    for name in ("head only", "supermask", "full fine-tuning"):
        assert name in printed
    assert (tmp_path / "demo" / "zeros.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "demo" / "supermask" / "delta" / "delta.safetensors").exists()


def test_every_example_is_run_here() -> None:
    # fsdp_loop needs two processes: see test_distributed_page.
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"demo", "fsdp_loop", "own_loop", "own_trainer"}
