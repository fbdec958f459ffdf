"""The ONNX file computes the task model's logits, says what it is, and appears whole or not at all.

An export takes seconds, so one is shared by the tests that need no other; `-m slow` exports every architecture.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from interop.tiny_exports import LABELS, bits, tiny_base, tiny_delta
from supermask import Base, TaskDelta, __version__
from supermask.errors import BaseMismatchError, ExportError, MissingDependencyError, OutputError
from supermask.interop import OnnxExport, onnx_graph, save_onnx
from supermask.interop import onnx as module
from tiny_models import ARCHITECTURES

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TEXTS = ("w1", "w5 w9 w30 w2 w2 w77", "w40 " * 29, "w8 w9 w10")
DEFAULT = ("bert", "gpt2")


@dataclass(frozen=True)
class Exported:
    base: Base
    delta: TaskDelta
    result: OnnxExport
    program: Any
    before: dict[str, bytes]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """A BERT with token types, exported once; its graph is kept to be saved again."""
    base = tiny_base(tmp_path_factory.mktemp("base"))
    base.model.train()  # whoever exports in the middle of a training finds the model as it was
    delta, before = tiny_delta(base), bits(base)
    programs: list[Any] = []

    def keep_graph(*arguments: Any, **named: Any) -> Any:
        programs.append(onnx_graph.export_graph(*arguments, **named))
        return programs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "export_graph", keep_graph)
        result = save_onnx(base, delta, tmp_path_factory.mktemp("out") / "model")
    yield Exported(base, delta, result, programs[0], before)


@pytest.fixture
def same_graph(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """`save_onnx` in no time: the graph is the shared one."""
    monkeypatch.setattr(module, "export_graph", lambda *arguments, **named: exported.program)
    return exported


def run(file: Path, batch: dict[str, torch.Tensor]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}
    (logits,) = session.run(["logits"], {name: value.numpy() for name, value in batch.items() if name in names})
    return np.asarray(logits)


def test_logits_of_texts_are_the_task_models(exported: Exported) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported.result.folder)
    model = exported.base.model.eval()
    for texts in (TEXTS[:1], TEXTS[1:3], TEXTS, TEXTS[::-1]):
        batch = tokenizer(list(texts), return_tensors="pt", padding=True, return_token_type_ids=True)
        with torch.no_grad():
            plain = model(**batch).logits.numpy()
            with exported.delta.applied(model):
                wanted = model(**batch).logits.numpy()
        found = run(exported.result.file, batch)
        assert found.shape == (len(texts), 3)
        assert np.abs(found - wanted).max() < 1e-5
        assert np.abs(found - plain).max() > 1e-2
    model.train()


def test_token_types_matter(exported: Exported) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported.result.folder)
    batch = dict(tokenizer(["w1 w2"], ["w3 w4 w5"], return_tensors="pt", return_token_type_ids=True))
    assert batch["token_type_ids"].sum() > 0
    types = {**batch, "token_type_ids": torch.zeros_like(batch["token_type_ids"])}
    assert np.abs(run(exported.result.file, batch) - run(exported.result.file, types)).max() > 1e-3


def test_what_is_reported(exported: Exported) -> None:
    result = exported.result
    assert result.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert result.largest_difference is not None
    assert 0 < result.largest_difference < 1e-5
    session = onnxruntime.InferenceSession(str(result.file), providers=["CPUExecutionProvider"])
    for each in session.get_inputs():
        assert (each.shape, each.type) == (["batch", "sequence"], "tensor(int64)")
    (output,) = session.get_outputs()
    assert (output.name, output.shape, output.type) == ("logits", ["batch", 3], "tensor(float)")
    model = onnx.load(result.file)
    onnx.checker.check_model(model, full_check=True)
    assert {each.domain: each.version for each in model.opset_import}[""] == result.opset


def test_the_file_says_what_it_is(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(str(exported.result.file), providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["supermask.labels"]) == list(LABELS)
    assert found["supermask.delta"] == exported.delta.digest
    assert found["supermask.base_fingerprint"] == exported.delta.base.digest
    assert (found["supermask.task"], found["supermask.kind"], found["supermask.base"]) == (
        "toy",
        "classification",
        "tiny",
    )
    assert found["supermask.version"] == __version__


def test_folder_has_the_tokenizer_and_the_classes(exported: Exported) -> None:
    folder = exported.result.folder
    names = {path.name for path in folder.iterdir()}
    assert {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not [name for name in names if name.endswith(".data")]
    config = AutoConfig.from_pretrained(folder)
    assert [config.id2label[index] for index in range(3)] == list(LABELS)
    assert config.architectures == ["BertForSequenceClassification"]


def test_nothing_of_this_machine_is_in_the_file(exported: Exported) -> None:
    content = exported.result.file.read_bytes()
    for trace in (b"site-packages", b".py", str(Path.home()).encode(), b"stack_trace"):
        assert trace not in content


def test_the_base_is_as_it_was(exported: Exported) -> None:
    assert bits(exported.base) == exported.before
    assert all(each.training for each in exported.base.model.modules())
    assert exported.base.model.config._attn_implementation == "sdpa"
    assert exported.base.model.config.architectures == ["BertModel"]
    assert not exported.delta.is_applied(exported.base.model)


def test_large_models_keep_their_weights_in_a_second_file(
    same_graph: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGE_NBYTES", 1000)
    result = save_onnx(same_graph.base, same_graph.delta, tmp_path / "model")
    assert result.file.stat().st_size < (result.folder / "model.onnx.data").stat().st_size
    assert str(tmp_path).encode() not in result.file.read_bytes()
    moved = result.folder.rename(tmp_path / "elsewhere")
    batch = {name: torch.ones(2, 3, dtype=torch.long) for name in result.inputs}
    assert np.array_equal(run(moved / "model.onnx", batch), run(same_graph.result.file, batch))


def test_without_the_check(same_graph: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "largest_difference", lambda *arguments: pytest.fail("compared"))
    result = save_onnx(same_graph.base, same_graph.delta, tmp_path / "model", verify=False)
    assert result.largest_difference is None
    assert result.file.exists()


class Spoilt:
    """The shared graph, saved with one number of the head's bias moved, or in the middle of it the person gives up."""

    def __init__(self, program: Any, *, by: float | None) -> None:
        self.model, self._program, self._by = program.model, program, by

    def save(self, file: str, **settings: Any) -> None:
        self._program.save(file, **settings)
        if self._by is None:
            raise KeyboardInterrupt
        model = onnx.load(file)
        bias = next(each for each in model.graph.initializer if each.name.endswith("classifier.bias"))
        values = onnx.numpy_helper.to_array(bias).copy()
        values[0] += self._by
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        onnx.save(model, file)


@pytest.mark.parametrize(
    ("by", "words"), [(3e-4, "by up to 0.0003, and 0.0001 is allowed"), (np.nan, "by up to inf, and 0.0001 is allowed")]
)
def test_a_file_that_computes_something_else_is_not_kept(
    by: float, words: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "export_graph", lambda *_, **__: Spoilt(exported.program, by=by))
    with pytest.raises(ExportError, match=f"BertForSequenceClassification gives logits.* {words}; nothing was written"):
        save_onnx(exported.base, exported.delta, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert bits(exported.base) == exported.before


def test_a_difference_that_is_allowed(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "export_graph", lambda *_, **__: Spoilt(exported.program, by=5e-5))
    result = save_onnx(exported.base, exported.delta, tmp_path / "model")
    assert result.largest_difference == pytest.approx(5e-5, rel=0.05)


def test_an_interrupted_export_leaves_nothing(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "export_graph", lambda *_, **__: Spoilt(exported.program, by=None))
    with pytest.raises(KeyboardInterrupt):
        save_onnx(exported.base, exported.delta, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert bits(exported.base) == exported.before
    assert not exported.delta.is_applied(exported.base.model)


def test_bad_places_and_bases_cost_no_export(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "export_graph", lambda *_, **__: pytest.fail("exported"))
    (tmp_path / "note").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        save_onnx(exported.base, exported.delta, tmp_path)
    other = tiny_base(tmp_path / "base")
    with torch.no_grad():
        other.model.bert.pooler.dense.bias[0] += 1
    with pytest.raises(BaseMismatchError):
        save_onnx(other, exported.delta, tmp_path / "model")
    monkeypatch.setattr(onnx_graph.importlib.util, "find_spec", lambda name: None if "onnx" in name else True)
    with pytest.raises(MissingDependencyError, match="needs onnx, onnxscript, onnxruntime, which"):
        save_onnx(exported.base, exported.delta, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "note"]


def check_export(base: Base, folder: Path, caplog: pytest.LogCaptureFixture) -> OnnxExport:
    """Export, and compare on texts that the export itself did not try."""
    delta, before = tiny_delta(base), bits(base)
    with caplog.at_level(logging.WARNING):
        result = save_onnx(base, delta, folder)
    assert [record.getMessage() for record in caplog.records] == []
    assert result.largest_difference is not None and result.largest_difference < 1e-5
    assert bits(base) == before
    return result


@pytest.mark.parametrize(
    "architecture",
    [each if each in DEFAULT[1:] else pytest.param(each, marks=pytest.mark.slow) for each in ARCHITECTURES],
)
def test_architecture(architecture: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = tiny_base(tmp_path / "base", architecture)
    result = check_export(base, tmp_path / "model", caplog)
    texts = [text + (" [SEP]" if architecture == "t5" else "") for text in TEXTS]
    for chosen in (texts[:1], texts[1:]):
        batch = base.tokenizer(chosen, return_tensors="pt", padding=True)
        with torch.no_grad(), tiny_delta(base).applied(base.model):
            wanted = base.model(**batch).logits.numpy()
        assert np.abs(run(result.file, dict(batch)) - wanted).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("architecture", ["bert", "llama", "t5"])
def test_sixteen_bits_are_widened(
    architecture: str, dtype: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = tiny_base(tmp_path / "base", architecture, dtype=dtype)
    assert base.model.dtype == getattr(torch, dtype)
    check_export(base, tmp_path / "model", caplog)
    assert base.model.dtype == getattr(torch, dtype)


@pytest.mark.slow
def test_regression_and_left_padding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = tiny_base(tmp_path / "base", "gpt2", num_labels=1)
    base.tokenizer.padding_side = "left"
    check_export(base, tmp_path / "model", caplog)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 21])
def test_opset(opset: int, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    assert save_onnx(base, tiny_delta(base), tmp_path / "model", opset=opset).opset == opset
