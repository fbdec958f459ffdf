"""The benchmarks run, and the page of their figures says what their records say. Nothing here is timed."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROWS = ("full fine-tuning", "same matrices", "supermask, fused", "pruning", "LoRA r=8")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers", "ignore::DeprecationWarning:peft")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a benchmark in this process; what it has printed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def call(script: str, *arguments: object) -> str:
        main = runpy.run_path(str(BENCHMARKS / script), run_name="benchmark")["main"]
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return call


def test_time_of_a_step(run: Callable[..., str], tmp_path: Path) -> None:
    output = tmp_path / "training.json"
    arguments = ("time", "--smoke", "--rounds", 1, "--warmup", 1, "--retries", 1, "--rows", *ROWS, "--output", output)
    printed = run("training.py", *arguments)
    run("training.py", *arguments)
    [section] = json.loads(output.read_text())["sections"]
    assert len(section["runs"]) == 2, "a second run is kept beside the first"
    seconds, phases = section["runs"][0]["seconds"], section["runs"][0]["phases"]
    assert tuple(seconds) == ROWS
    for row, whole in seconds.items():
        assert f"| {row} |" in printed
        parts = sum(phases[row].values())
        assert whole >= 0.999 * parts > 0, "a pruning step has its share of ranking on top"
        assert row == "pruning" or whole == pytest.approx(parts, rel=1e-2)
    assert str(tmp_path) not in output.read_text()


def test_rows_change_what_they_say(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    rows = runpy.run_path(str(BENCHMARKS / "training_rows.py"))
    trained: dict[str, int] = {}
    for row in rows["ROWS"]:
        step = rows["build"]("tiny", row, device="cpu", precision="fp32")
        [batch] = rows["make_batches"](step.model, size=2, length=8, count=1)
        before = {name: tensor.detach().clone() for name, tensor in step.model.named_parameters()}
        step(batch)
        trained[row] = sum(
            tensor.numel() for name, tensor in step.model.named_parameters() if not tensor.equal(before[name])
        )
    model = rows["MODELS"]["tiny"]()
    masked, head = rows["masked_weights"](model), 2 * 32 + 2
    assert trained["head-only"] == head
    for row in ("supermask, eager", "supermask, fused", "supermask, fused, 8-bit state"):
        assert trained[row] == pytest.approx(masked + head, rel=0.02), row
    assert trained["same matrices"] == pytest.approx(masked + head, rel=0.02)
    assert trained["full fine-tuning"] > 1.05 * trained["same matrices"]
    assert head < trained["LoRA r=8"] < masked
    assert trained["freezing"] < trained["full fine-tuning"]


@pytest.mark.slow
def test_memory_of_a_step(run: Callable[..., str], tmp_path: Path) -> None:
    output = tmp_path / "training.json"
    run("training.py", "memory", "--smoke", "--rows", "same matrices", "supermask, fused", "--output", output)
    [section] = json.loads(output.read_text())["sections"]
    rows = section["runs"][0]["rows"]
    for row in rows.values():
        assert 0 < row["alive"] < row["peak"]
    weights = section["runs"][0]["masked_weights"]
    # Frozen weights, mask logits and two moments, against weights and two moments; and the table of 65,536 logits.
    extra = rows["supermask, fused"]["alive"] - rows["same matrices"]["alive"]
    assert extra - 4 * 65536 == pytest.approx(4 * weights, rel=0.1)
    assert rows["supermask, fused"]["saved_for_backward"] <= rows["same matrices"]["saved_for_backward"] + weights / 10


@pytest.mark.slow
@pytest.mark.parametrize("script", ["kernels_cpu.py", "analysis.py"])
def test_other_benchmarks(script: str, run: Callable[..., str], tmp_path: Path) -> None:
    output = tmp_path / "record.json"
    assert "\n| " in run(script, "--smoke", "--rounds", 1, "--output", output)
    record: dict[str, Any] = json.loads(output.read_text())
    assert record["environment"]["torch"]


def test_the_page_says_what_the_records_say(run: Callable[..., str]) -> None:
    run("page.py", "--check")
