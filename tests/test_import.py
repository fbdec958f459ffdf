import importlib.metadata
import json
import subprocess
import sys
from typing import Any

import pytest

import supermask

# What one interpreter, which has imported nothing yet, imports step by step.
STEPS = {
    "package": "import supermask",
    "names": "import supermask.tasks, supermask.models.selection, supermask.models.mapping, supermask.models.bases\n"
    "from supermask.models import map_parameters, load_base, known_bases; known_bases()",
    "torch": "import torch",
    "core": "import supermask.core",
    "stored": "import supermask.deltas; from supermask import TaskDelta",
    "rooms": "import supermask.methods, supermask.report.zeros",
}
TRAINING_STACK = {
    *("transformers", "accelerate", "huggingface_hub", "datasets", "peft", "sklearn", "scipy", "pyarrow", "matplotlib"),
    *("typer", "rich", "onnx", "onnxruntime", "numba", "llvmlite", "supermask.study", "supermask.training"),
}


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    """What each step has imported, and the processor seconds it took."""
    code = "import json, sys, time\nfound, seconds = {}, {}\n"
    for name, step in STEPS.items():
        code += f"before, start = set(sys.modules), time.process_time()\n{step}\n"
        code += f"found[{name!r}] = sorted(set(sys.modules) - before)\n"
        code += f"seconds[{name!r}] = time.process_time() - start\n"
    code += "print(json.dumps({'found': found, 'seconds': seconds}))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout))


def test_the_package_alone_is_next_to_nothing(imported: dict[str, Any]) -> None:
    loaded = imported["found"]["package"]
    assert [name for name in loaded if name.startswith("supermask")] == ["supermask"]
    assert len(loaded) < 60 and not {"torch", "numpy", "pydantic"} & set(loaded)


def test_tasks_and_models_are_named_without_torch(imported: dict[str, Any]) -> None:
    assert not {"torch", "supermask.tasks.probes", *TRAINING_STACK} & set(imported["found"]["names"])


@pytest.mark.parametrize("step", STEPS)
def test_using_a_stored_delta_needs_neither_transformers_nor_the_training_stack(
    step: str, imported: dict[str, Any]
) -> None:
    assert not TRAINING_STACK & set(imported["found"][step])


def test_importing_takes_little_beyond_torchs_own_import(imported: dict[str, Any]) -> None:
    # Processor time, so that a busy machine does not count; against torch's own, so that a slow one does not either.
    seconds = imported["seconds"]
    assert seconds["package"] < 0.25 * seconds["torch"]
    assert seconds["core"] < 0.5 * seconds["torch"]


@pytest.mark.parametrize("name", [*supermask.__all__, "__version__"])
def test_every_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(supermask, name) is not None
    assert name in dir(supermask)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'supermask' has no attribute 'trian'"):
        supermask.trian  # noqa: B018


def test_the_version_is_that_of_the_installed_package() -> None:
    assert supermask.__version__ == importlib.metadata.version("supermask")
