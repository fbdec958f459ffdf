"""The ONNX file computes the task model's logits, says what it is, and appears whole or not at all.

An export takes seconds, so one is shared by the tests; `-m slow` exports every architecture.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
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
from supermask.interop.onnx import largest_difference, probe_batches
from tiny_models import ARCHITECTURES

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TEXTS = ("w1", "w5 w9 w30 w2 w2 w77", "w40 " * 29, "w8 w9 w10")
NAMES = ("input_ids", "attention_mask", "token_type_ids")


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
    pair = dict(tokenizer(["w1 w2"], ["w3 w4 w5"], return_tensors="pt", return_token_type_ids=True))
    assert pair["token_type_ids"].sum() > 0
    types = {**pair, "token_type_ids": torch.zeros_like(pair["token_type_ids"])}
    assert np.abs(run(exported.result.file, pair) - run(exported.result.file, types)).max() > 1e-3


def test_file_and_folder_are_what_is_reported(exported: Exported) -> None:
    result = exported.result
    assert result.inputs == NAMES
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
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found.pop("supermask.labels")) == list(LABELS)
    assert {name.removeprefix("supermask."): value for name, value in found.items()} == {
        "task": "toy",
        "kind": "classification",
        "delta": exported.delta.digest,
        "base": "tiny",
        "base_fingerprint": exported.delta.base.digest,
        "version": __version__,
    }
    names = {path.name for path in result.folder.iterdir()}
    assert {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not [name for name in names if name.endswith(".data")]
    config = AutoConfig.from_pretrained(result.folder)
    assert [config.id2label[index] for index in range(3)] == list(LABELS)
    assert config.architectures == ["BertForSequenceClassification"]
    content = result.file.read_bytes()
    for trace in (b"site-packages", b".py", str(Path.home()).encode(), b"stack_trace"):  # of this machine
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
    ("by", "error", "words"),
    [
        (3e-4, ExportError, r"BertForSeq.* by up to 0\.0003, and 0\.0001 is allowed; nothing was written"),
        (np.nan, ExportError, r"BertForSeq.* by up to inf, and 0\.0001 is allowed; nothing was written"),
        (None, KeyboardInterrupt, "^$"),
    ],
)
def test_a_file_that_computes_something_else_is_not_kept(
    by: float | None,
    error: type[BaseException],
    words: str,
    exported: Exported,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "export_graph", lambda *_, **__: Spoilt(exported.program, by=by))
    with pytest.raises(error, match=words):
        save_onnx(exported.base, exported.delta, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    assert bits(exported.base) == exported.before
    assert not exported.delta.is_applied(exported.base.model)


def test_a_difference_that_is_allowed(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "export_graph", lambda *_, **__: Spoilt(exported.program, by=5e-5))
    result = save_onnx(exported.base, exported.delta, tmp_path / "model")
    assert result.largest_difference == pytest.approx(5e-5, rel=0.05)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        *((architecture, {}) for architecture in ARCHITECTURES),
        *(
            (architecture, {"dtype": dtype})
            for architecture in ("bert", "llama", "t5")
            for dtype in ("float16", "bfloat16")
        ),
        ("gpt2", {"num_labels": 1}),  # and padding on the left
    ],
)
def test_every_architecture_and_dtype(
    architecture: str, settings: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = tiny_base(tmp_path / "base", architecture, **settings)
    base.tokenizer.padding_side = "left" if "num_labels" in settings else "right"
    delta, before = tiny_delta(base), bits(base)
    with caplog.at_level(logging.WARNING):
        result = save_onnx(base, delta, tmp_path / "model")
    assert [record.getMessage() for record in caplog.records] == []
    assert result.largest_difference is not None and result.largest_difference < 1e-5
    assert bits(base) == before
    assert base.model.dtype == getattr(torch, settings.get("dtype", "float32"))
    texts = [text + (" [SEP]" if architecture == "t5" else "") for text in TEXTS]
    for chosen in (texts[:1], texts[1:]) if not settings else ():  # which the export itself did not try
        batch = base.tokenizer(chosen, return_tensors="pt", padding=True)
        with torch.no_grad(), delta.applied(base.model):
            wanted = base.model(**batch).logits.numpy()
        assert np.abs(run(result.file, dict(batch)) - wanted).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 21])
def test_opset(opset: int, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    assert save_onnx(base, tiny_delta(base), tmp_path / "model", opset=opset).opset == opset


# The check: what is tried out, and that the largest difference is what an independent computation says.


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
    # The same for the same seed and only then; padding stands where the tokenizer puts it.
    first, again, other = (list(probe_batches(base, NAMES, seed=seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one["input_ids"], two["input_ids"]) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one["input_ids"], two["input_ids"]) for one, two in zip(first, other, strict=True))
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


def counting_file(folder: Path, *, outputs: int = 1) -> Path:
    """An ONNX file that returns how many tokens a row has, by hand."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["real", "axes"], ["sum"], keepdims=1),
        helper.make_node("Concat", ["sum"] * outputs, ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "counting",
        [helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
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


@pytest.mark.parametrize(
    ("offset", "outputs", "expected"),
    [(0.0, 1, 0.0), (0.25, 1, 0.25), (-0.5, 1, 0.5), (np.nan, 1, np.inf), (np.inf, 1, np.inf), (0.0, 2, np.inf)],
)
def test_largest_difference_over_all_batches(offset: float, outputs: int, expected: float, tmp_path: Path) -> None:
    file = counting_file(tmp_path, outputs=outputs)
    assert largest_difference(file, counting_model(offset), iter(batches())) == expected


def test_a_file_that_does_not_load_or_run_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"onnxruntime .* cannot run the ONNX file: .*; try another opset"):
        largest_difference(tmp_path / "broken.onnx", counting_model(0.0), iter(batches()))
    flat = [{"attention_mask": torch.ones(3, dtype=torch.long)}]
    with pytest.raises(ExportError, match="cannot run the ONNX file"):
        largest_difference(counting_file(tmp_path), lambda attention_mask: SimpleNamespace(logits=flat), iter(flat))
    assert capfd.readouterr().err == ""

    def forward(attention_mask: torch.Tensor) -> SimpleNamespace:
        raise KeyError("mine")  # the model's own error is not dressed up

    with pytest.raises(KeyError, match="mine"):
        largest_difference(counting_file(tmp_path), forward, iter(batches()))
