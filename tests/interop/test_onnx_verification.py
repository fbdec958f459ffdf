"""What is tried out, and that the largest difference is what an independent computation says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from interop.tiny_exports import tiny_base
from supermask import Base
from supermask.errors import ExportError
from supermask.interop.onnx_verification import largest_difference, probe_batches

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

NAMES = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return tiny_base(tmp_path / "base")


def test_batches_are_of_several_sizes_lengths_and_paddings(base: Base) -> None:
    batches = list(probe_batches(base, NAMES))
    shapes = [tuple(batch["input_ids"].shape) for batch in batches]
    assert (1, 1) in shapes
    assert len({rows for rows, _ in shapes}) >= 4
    assert max(length for _, length in shapes) == 62  # of 64 positions; longer texts are cut
    paddings = [int((batch["attention_mask"] == 0).sum()) for batch in batches]
    assert 0 in paddings[1:] and max(paddings) > 10
    for batch in batches:
        assert list(batch) == list(NAMES)
        for name, tensor in batch.items():
            assert tensor.dtype == torch.int64, name
        padded = batch["attention_mask"] == 0
        assert (batch["input_ids"][padded] == base.tokenizer.pad_token_id).all()
        assert not torch.isin(batch["input_ids"][~padded], torch.tensor(base.tokenizer.all_special_ids)).any()
        assert (batch["attention_mask"].sum(1) >= 1).all()
        assert (batch["attention_mask"].diff(dim=1) <= 0).all()  # padding stands on the right
    assert batches[2]["token_type_ids"].unique().tolist() == [0, 1]


def test_batches_are_the_same_for_the_same_seed_and_only_then(base: Base) -> None:
    first, again, other = (list(probe_batches(base, NAMES, seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one["input_ids"], two["input_ids"]) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one["input_ids"], two["input_ids"]) for one, two in zip(first, other, strict=True))


def test_padding_goes_where_the_tokenizer_puts_it(base: Base) -> None:
    base.tokenizer.padding_side = "left"
    for batch in probe_batches(base, NAMES):
        assert (batch["attention_mask"].diff(dim=1) >= 0).all()
        assert (batch["attention_mask"][:, -1] == 1).all()


def test_a_head_that_reads_the_end_of_the_text_finds_one(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "t5")
    for batch in probe_batches(base, NAMES[:2]):
        ends = batch["input_ids"] == base.model.config.eos_token_id
        assert (ends.sum(1) == 1).all()
        assert torch.equal(ends.long().argmax(1), batch["attention_mask"].sum(1) - 1)


def counting_file(folder: Path, *, outputs: int = 1, name: str = "logits") -> Path:
    """An ONNX file that returns how many tokens a row has, by hand."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axes"], ["sum"], keepdims=1),
        helper.make_node("Concat", ["sum"] * outputs, [name], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "counting",
        [helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", outputs])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "counting.onnx")
    return folder / "counting.onnx"


def counting_model(offset: float) -> Any:
    """The same under PyTorch, off by so much in the longest row alone."""

    def forward(attention_mask: torch.Tensor) -> SimpleNamespace:
        counts = attention_mask.sum(1, keepdim=True).float()
        return SimpleNamespace(logits=counts + offset * (counts == 5))

    return forward


def batches() -> list[dict[str, torch.Tensor]]:
    return [{"attention_mask": torch.ones(2, 3, dtype=torch.long)}, {"attention_mask": torch.eye(5).long() * 0 + 1}]


@pytest.mark.parametrize(("offset", "expected"), [(0.0, 0.0), (0.25, 0.25), (-0.5, 0.5)])
def test_largest_difference_over_all_batches(offset: float, expected: float, tmp_path: Path) -> None:
    assert largest_difference(counting_file(tmp_path), counting_model(offset), iter(batches())) == expected


@pytest.mark.parametrize("offset", [float("nan"), float("inf")])
def test_what_is_not_finite_is_infinitely_far(offset: float, tmp_path: Path) -> None:
    assert largest_difference(counting_file(tmp_path), counting_model(offset), iter(batches())) == float("inf")


def test_another_shape_is_infinitely_far(tmp_path: Path) -> None:
    file = counting_file(tmp_path, outputs=2)
    assert largest_difference(file, counting_model(0.0), iter(batches())) == float("inf")


def test_a_file_that_does_not_load_or_run_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"onnxruntime .* cannot run the ONNX file: .*; try another opset"):
        largest_difference(tmp_path / "broken.onnx", counting_model(0.0), iter(batches()))
    flat = [{"attention_mask": torch.ones(3, dtype=torch.long)}]
    with pytest.raises(ExportError, match="cannot run the ONNX file"):
        largest_difference(counting_file(tmp_path), lambda attention_mask: SimpleNamespace(logits=flat), iter(flat))
    assert capfd.readouterr().err == ""


def test_the_models_own_error_is_not_dressed_up(tmp_path: Path) -> None:
    def forward(attention_mask: torch.Tensor) -> SimpleNamespace:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        largest_difference(counting_file(tmp_path), forward, iter(batches()))
