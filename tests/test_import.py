from __future__ import annotations

import json
import subprocess
import sys

import pytest

import supermask

HEAVY = (
    "transformers",
    "matplotlib",
    "sklearn",
    "scipy",
    "datasets",
    "pyarrow",
    "typer",
    "rich",
    "accelerate",
    "huggingface_hub",
    "numba",
    "llvmlite",
    "peft",
    "onnx",
    "onnxruntime",
)


def in_a_fresh_process(code: str) -> dict[str, object]:
    """What the code leaves in `result`, run by an interpreter that has imported nothing yet."""
    script = f"import json, sys, time\nresult = {{}}\n{code}\nprint(json.dumps(result))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    loaded: dict[str, object] = json.loads(finished.stdout.splitlines()[-1])
    return loaded


def heavy_after(code: str, *, heavy: tuple[str, ...] = HEAVY) -> object:
    return in_a_fresh_process(f"{code}\nresult['heavy'] = [name for name in {heavy!r} if name in sys.modules]")["heavy"]


def test_importing_the_package_loads_no_heavy_library() -> None:
    assert heavy_after("import supermask", heavy=(*HEAVY, "torch", "numpy", "pydantic")) == []


def test_importing_the_package_loads_few_modules() -> None:
    loaded = in_a_fresh_process(
        "before = set(sys.modules)\nimport supermask\nresult['modules'] = sorted(set(sys.modules) - before)"
    )["modules"]
    assert [name for name in loaded if name.startswith("supermask")] == ["supermask"]  # type: ignore[attr-defined]
    assert len(loaded) < 60  # type: ignore[arg-type]


def test_using_a_stored_delta_needs_neither_transformers_nor_the_training_stack() -> None:
    assert heavy_after("import supermask.core, supermask.deltas\nfrom supermask import TaskDelta") == []


def test_the_other_rooms_that_need_no_model_stay_light() -> None:
    rooms = "supermask.tasks, supermask.methods, supermask.models, supermask.report.zeros"
    assert heavy_after(f"import {rooms}", heavy=(*HEAVY, "supermask.study", "supermask.training")) == []


def test_importing_takes_little_beyond_torchs_own_import() -> None:
    # Processor time, so that a busy machine does not count; against torch's own, so that a slow one does not either.
    spent = in_a_fresh_process(
        "start = time.process_time(); import torch\n"
        "after_torch = time.process_time(); import supermask\n"
        "after_supermask = time.process_time(); import supermask.core\n"
        "result = {'torch': after_torch - start, 'supermask': after_supermask - after_torch, "
        "'core': time.process_time() - after_supermask}"
    )
    assert spent["supermask"] < 0.25 * spent["torch"]  # type: ignore[operator]
    assert spent["core"] < 0.5 * spent["torch"]  # type: ignore[operator]


@pytest.mark.parametrize("name", [*supermask.__all__, "__version__"])
def test_every_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(supermask, name) is not None
    assert name in dir(supermask)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'supermask' has no attribute 'trian'"):
        supermask.trian  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    import importlib.metadata

    assert supermask.__version__ == importlib.metadata.version("supermask")
