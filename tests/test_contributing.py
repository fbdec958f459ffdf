"""The first method of CONTRIBUTING.md is a real one."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from supermask.core.magnitude import zeros_at
from supermask.deltas import SparseValues, TaskDelta
from supermask.methods import make_optimizer
from tiny_models import same_bits, snapshot, tiny_batch, tiny_model
from tiny_tasks import take_steps

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def one_shot() -> Iterator[ModuleType]:
    """The module that the page writes, imported under a name of its own: pydantic looks its names up there."""
    (code,) = re.findall(r"^ *```python\n(.*?)^ *```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    module = ModuleType("first_method")
    sys.modules[module.__name__] = module
    try:
        exec(compile(textwrap.dedent(code), "CONTRIBUTING.md", "exec"), module.__dict__)
        yield module
    finally:
        del sys.modules[module.__name__]


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_the_first_method_learns_is_stored_and_comes_off(
    one_shot: ModuleType, architecture: str, tmp_path: Path
) -> None:
    model = tiny_model(architecture)
    batch, before = tiny_batch(model), snapshot(model)
    attachment = one_shot.OneShot(sparsity=0.25, exclude="block-0").attach_(model)
    attachment.begin_training(total_steps=2)
    take_steps(attachment, make_optimizer(attachment, head_learning_rate=1e-2), range(2))
    with attachment.evaluating():
        learnt = model(**batch).logits
    assert attachment.statistics()["sparsity"] == pytest.approx(0.25, abs=1e-3)
    attachment.extract().save(tmp_path / "delta")
    attachment.detach_()
    assert all(same_bits(tensor, before[name]) for name, tensor in snapshot(model).items())

    delta = TaskDelta.load(tmp_path / "delta")
    masks = {name: change.keep for name, change in delta.changes_for(model).items() if isinstance(change, SparseValues)}
    assert masks
    for name, keep_mask in masks.items():
        weight = before[name].abs()
        assert int((~keep_mask).sum()) == zeros_at(0.25, weight.numel())
        assert float(weight[~keep_mask].max()) <= float(weight[keep_mask].min())
    fresh = tiny_model(architecture).eval()
    delta.apply_(fresh)
    with torch.no_grad():
        assert torch.equal(fresh(**batch).logits, learnt)


def test_every_file_that_the_page_names_is_there() -> None:
    examples = {"src/supermask/methods/one_shot.py", "tests/methods/test_one_shot.py"}
    named = set(re.findall(r"`((?:src|tests|docs)/[\w/.]+)`", TEXT)) | set(re.findall(r"\]\(([\w/.]+)\)", TEXT))
    assert len(named) > 8
    assert {path for path in named - examples if not (ROOT / path).exists()} == set()
