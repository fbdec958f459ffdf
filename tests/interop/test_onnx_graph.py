"""What the exporter is given, what it may say, and how its failures are told."""

import contextlib
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from interop.tiny_exports import bits_of, tiny_base, tiny_delta
from supermask.errors import ConfigurationError, ExportError, MissingDependencyError
from supermask.interop import onnx_graph, save_onnx
from supermask.interop.onnx_graph import float32_on_cpu, graph_inputs, require_onnx

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    require_onnx(verify=True, opset=None)
    for opset in (-1, 0, 17, 1000):
        with pytest.raises(ConfigurationError, match=rf"opset {opset} is outside 18 to \d\d, .*leave it out"):
            require_onnx(verify=True, opset=opset)
    found = onnx_graph.importlib.util.find_spec
    monkeypatch.setattr(
        onnx_graph.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name)
    )
    require_onnx(verify=False, opset=18)
    with pytest.raises(MissingDependencyError, match=r"needs onnxruntime, .*pip install 'supermask\[onnx\]'"):
        require_onnx(verify=True, opset=None)
    for version in ("2.13.0+cpu", "10.0", "2.4.1"):
        monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(version))
        if version != "2.4.1":
            require_onnx(verify=False, opset=18)
    with pytest.raises(MissingDependencyError, match=r"needs torch [\d.]+ or newer, and 2\.4\.1 is installed"):
        require_onnx(verify=False, opset=18)


@pytest.mark.parametrize(
    ("architecture", "given", "expected"),
    [
        ("bert", ["token_type_ids", "attention_mask", "input_ids"], ("input_ids", "attention_mask", "token_type_ids")),
        ("bert", ["input_ids", "attention_mask"], ("input_ids", "attention_mask")),
        ("distilbert", ["input_ids", "token_type_ids", "attention_mask"], ("input_ids", "attention_mask")),
    ],
)
def test_inputs_are_what_the_tokenizer_gives_and_the_model_takes(
    architecture: str, given: list[str], expected: tuple[str, ...], tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", architecture)
    base.tokenizer.model_input_names = given
    assert graph_inputs(base) == expected


def test_models_that_read_more_than_text_are_refused(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    base.tokenizer.model_input_names = ["input_ids", "position_ids"]
    with pytest.raises(ExportError, match="BertForSequenceClassification reads position_ids beside the text"):
        save_onnx(base, tiny_delta(base), tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_float32_on_cpu(dtype: str, tmp_path: Path) -> None:
    model = tiny_base(tmp_path / "base", dtype=dtype).model.train()
    model.bert.pooler.eval()
    before, modes = bits_of(model), [module.training for module in model.modules()]
    with pytest.raises(RuntimeError, match="inside"), float32_on_cpu(model) as widened:
        assert (widened is model) == (dtype == "float32")
        assert not any(module.training for module in widened.modules())
        for name, tensor in widened.state_dict().items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, model.state_dict()[name].float())
        raise RuntimeError("inside")
    assert [module.training for module in model.modules()] == modes
    assert bits_of(model) == before


def test_a_model_that_cannot_be_traced_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    base = tiny_base(tmp_path / "base")
    forward = base.model.forward

    def branching(input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: Any = None) -> Any:
        if input_ids.sum() > 1000:  # what a graph cannot express
            input_ids = input_ids.flip(0)
        return forward(input_ids=input_ids, attention_mask=attention_mask)

    monkeypatch.setattr(base.model, "forward", branching)
    capfd.readouterr()
    with pytest.raises(ExportError, match="cannot export BertForSequenceClassification to ONNX: ") as caught:
        save_onnx(base, tiny_delta(base), tmp_path / "model")
    assert capfd.readouterr() == ("", "")
    assert len(str(caught.value)) < 800 and "\n" not in str(caught.value)
    assert base.model.config._attn_implementation == "sdpa"
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_an_opset_that_the_exporter_does_not_reach_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_base(tmp_path / "base")

    class Program:
        class model:  # noqa: N801
            opset_imports = {"": 18}  # noqa: RUF012

    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **named: Program)
    with pytest.raises(ExportError, match="cannot be had at opset 20, only at 18; leave opset out"):
        save_onnx(base, tiny_delta(base), tmp_path / "model", opset=20)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_only_what_is_known_is_held_back(caplog: pytest.LogCaptureFixture) -> None:
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    filters = list(registration.filters)
    with caplog.at_level(logging.WARNING), onnx_graph._quiet_exporter():
        registration.warning("torchvision is not installed. Skipping %s", "torchvision::nms")
        registration.warning("the graph is wrong")
        warnings.warn("# The axis name: batch will not be used, since", UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="something new"):
            warnings.warn("something new", UserWarning, stacklevel=1)
    assert registration.filters == filters


@pytest.mark.parametrize("fails", [True, False])
def test_what_torch_writes_is_passed_on_unless_it_fails(fails: bool, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler, torch_logger = Handler(), logging.getLogger("torch")
    torch_logger.addHandler(handler)
    try:
        with contextlib.suppress(RuntimeError), onnx_graph._silent_on_failure():
            print("a dump", file=sys.stderr)
            logging.getLogger("torch.fx").warning("a log")
            assert seen == []
            if fails:
                raise RuntimeError
        assert seen == ([] if fails else ["a log"])
        assert ("a dump" in capsys.readouterr().err) is not fails
        logging.getLogger("torch.fx").warning("later")
        assert seen[-1] == "later"
    finally:
        torch_logger.removeHandler(handler)
