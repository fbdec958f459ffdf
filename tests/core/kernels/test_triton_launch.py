from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from supermask.errors import MissingDependencyError

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


def run(*command: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_kernels_in_the_interpreter() -> None:
    # Triton reads the variable when it is imported, and this process may have imported it.
    pytest.importorskip("triton")
    files = [str(HERE / name) for name in ("test_triton.py", "test_reference.py", "test_adam8.py")]
    # It computes with numpy, which warns of what is not finite.
    options = ("-q", "-p", "no:cacheprovider", "-W", "ignore::RuntimeWarning", "-k", "triton")
    output = run("-m", "pytest", *options, *files, TRITON_INTERPRET="1")
    assert " passed" in output
    assert "failed" not in output


@pytest.mark.parametrize("capability", [pytest.param(80, marks=pytest.mark.slow), 90])
def test_the_kernels_compile_without_a_gpu(capability: int, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    script = str(HERE / "triton_compiling.py")
    found = json.loads(run("-W", "error", script, str(capability), TRITON_CACHE_DIR=str(tmp_path)))
    assert len(found) == 6
    for name, one in found.items():
        assert one["bytes"] > 1000
        assert one["compilations"] == 1, f"{name} is compiled anew when a number changes"
    # 8 weights a thread: 16 bytes of each bfloat16, twice 16 of each float32.
    draw = found["draw_masked_weight"]
    assert (draw["wide loads"], draw["wide stores"], draw["exponentials"]) == (3, 1, 8)
    gradient = found["mask_logit_gradient"]
    assert (gradient["wide loads"], gradient["wide stores"]) == (4, 2)
    assert found["threshold_masked_weight"]["exponentials"] == 0
    # Not one product and sum fused, or the bytes would not be those of other backends.
    assert found["adam_step_8bit_"]["fused"] == 0


def test_the_benchmark_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["kernels_gpu.py"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "benchmarks" / "kernels_gpu.py"), run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr() == (
        "",
        "kernels_gpu: torch sees no CUDA device; this benchmark measures nothing else\n",
    )


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """No module that needs Triton has been imported yet."""
    for name in [name for name in sys.modules if name.startswith("supermask.core.kernels.triton_")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("anew")
def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(MissingDependencyError, match=r"need the library triton.*pip install"):
        importlib.import_module("supermask.core.kernels.triton_kernels")


@pytest.mark.usefixtures("anew")
def test_with_a_triton_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.ModuleType("triton")
    old.__version__ = "3.1.0"  # type: ignore[attr-defined]
    old.language = types.ModuleType("triton.language")  # type: ignore[attr-defined]
    old.language.core = types.ModuleType("triton.language.core")  # type: ignore[attr-defined]
    for module in (old, old.language, old.language.core):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(MissingDependencyError, match=r"need triton 3\.2 or newer, received 3\.1\.0"):
        importlib.import_module("supermask.core.kernels.triton_kernels")
