"""A sequence classifier as an ONNX graph whose batch and sequence axes are free, made by torch's exporter."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import inspect
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

import torch
from torch import Tensor, nn

from supermask.errors import ConfigurationError, ExportError, MissingDependencyError
from supermask.models import Base
from supermask.models.sources import first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["OLDEST_TORCH", "export_graph", "float32_on_cpu", "graph_inputs", "require_onnx"]

OLDEST_TORCH: Final = "2.8"
"""The first torch whose exporter does well enough; docs/export.md has the versions that were tried."""

_OLDEST_OPSET: Final = 18
_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")

# What the exporter says about its own affairs, of no consequence for the graph, which is checked by running it.
_KNOWN_WARNINGS: Final = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"# The axis name: .* will not be used",
)
_KNOWN_LOGS: Final = {
    "torch.onnx._internal.exporter._registration": "torchvision is not installed",
    "onnxscript.optimizer._constant_folding": "Skipping constant folding",
}


def require_onnx(*, verify: bool, opset: int | None) -> None:
    """Say what is missing for an export, onnxruntime too if it is to be verified, before anything is computed."""
    needed = ("onnx", "onnxscript", *(("onnxruntime",) if verify else ()))
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise MissingDependencyError(
            f"exporting to ONNX needs {', '.join(missing)}, which is not installed; run: pip install 'supermask[onnx]'"
        )
    if torch.__version__ < OLDEST_TORCH:
        raise MissingDependencyError(
            f"exporting to ONNX needs torch {OLDEST_TORCH} or newer, and {torch.__version__} is installed; run: "
            f"pip install --upgrade 'torch>={OLDEST_TORCH}'"
        )
    from onnx.defs import onnx_opset_version

    if opset is not None and not _OLDEST_OPSET <= opset <= onnx_opset_version():
        raise ConfigurationError(
            f"opset {opset} is outside {_OLDEST_OPSET} to {onnx_opset_version()}, which torch and onnx have here; "
            "leave it out for the recommended one"
        )


def graph_inputs(base: Base) -> tuple[str, ...]:
    """Names of the graph's inputs: what the base's tokenizer gives and its model takes, which must be text alone."""
    taken = inspect.signature(base.model.forward).parameters
    given = [name for name in base.tokenizer.model_input_names if name in taken]
    if strange := [name for name in given if name not in _INPUTS]:
        raise ExportError(
            f"{type(base.model).__name__} reads {', '.join(strange)} beside the text; only models that read "
            f"{', '.join(_INPUTS)} are exported to ONNX"
        )
    return tuple(name for name in _INPUTS if name in given)


@contextmanager
def float32_on_cpu(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """The model in evaluation mode, in float32 and on the CPU: the same one if it is there, otherwise a copy.

    Widening 16-bit weights is exact. Whether the given model was training is put back.
    """
    parameters = list(model.parameters())
    if all(each.device.type == "cpu" and each.dtype in (torch.float32, torch.int64) for each in parameters):
        was_training = {module: module.training for module in model.modules()}
        try:
            yield model.eval()
        finally:
            for module, mode in was_training.items():
                module.training = mode
    else:
        widened = copy.deepcopy(model).to("cpu", torch.float32).eval()
        widened.set_attn_implementation("eager")  # what an accelerator computes attention with may not run here
        yield widened


def export_graph(model: PreTrainedModel, example: Mapping[str, Tensor], *, opset: int | None) -> Any:
    """Trace a model and translate it.

    Attention is traced in its plain form, `eager`: every architecture has it, and it exports where fused ones do not.

    Args:
        model: in evaluation mode.
        example: an input of every name, of 2 rows and 2 tokens or more, with padding.
        opset: of the graph; None for the exporter's choice.

    Returns:
        torch's `ONNXProgram`, without the paths of source files that the exporter leaves in it.
    """
    kind = type(model).__name__
    try:
        with torch.no_grad(), _plain_attention(model), _quiet_exporter(), _silent_on_failure():
            program = torch.onnx.export(
                _LogitsAlone(model).eval(),
                (),
                kwargs=dict(example),
                input_names=list(example),
                output_names=["logits"],
                dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in example},
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise ExportError(
            f"torch {torch.__version__} cannot export {kind} to ONNX: {_reason(error)}; save the checkpoint instead, "
            "or try another version of torch or transformers"
        ) from error
    assert program is not None
    reached = program.model.opset_imports.get("")
    if opset is not None and reached != opset:
        raise ExportError(f"the graph of {kind} cannot be had at opset {opset}, only at {reached}; leave opset out")
    _strip_(program.model)
    return program


@final
class _LogitsAlone(nn.Module):
    """A classifier that takes what a tokenizer gives and returns one tensor."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.settings = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {name: value for name, value in given.items() if value is not None}
        logits: Tensor = self.model(**inputs, **self.settings).logits
        return logits


@contextmanager
def _plain_attention(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation
    if before == "eager":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hold back what is known and harmless; anything else is still heard."""

    def is_news(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_KNOWN_LOGS[record.name])

    loggers = [logging.getLogger(name) for name in _KNOWN_LOGS]
    with warnings.catch_warnings():
        for message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.addFilter(is_news)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeFilter(is_news)


@contextmanager
def _silent_on_failure() -> Iterator[None]:
    """Pass on what torch writes to standard error only if the block ends well.

    A graph that cannot be traced is dumped there, pages of it, and the exception says in one line why.
    """
    written = io.StringIO()
    records: list[tuple[logging.Handler, logging.LogRecord]] = []
    holds: list[tuple[logging.Handler, Callable[..., bool]]] = []
    for handler in logging.getLogger("torch").handlers:  # they write to where standard error was when torch came up

        def hold(record: logging.LogRecord, handler: logging.Handler = handler) -> bool:
            records.append((handler, record))
            return False

        handler.addFilter(hold)
        holds.append((handler, hold))
    try:
        with contextlib.redirect_stderr(written):
            yield
    finally:
        for handler, held in holds:
            handler.removeFilter(held)
    sys.stderr.write(written.getvalue())
    for handler, record in records:
        handler.handle(record)


def _strip_(graph_model: Any) -> None:
    """Take out the notes for debugging: they hold the paths of the exporting machine, and most of a small file."""
    for graph in (graph_model.graph, *graph_model.functions.values()):
        graph.metadata_props.clear()
        graph.doc_string = None
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
    for value in (*graph_model.graph.inputs, *graph_model.graph.initializers.values()):
        value.metadata_props.clear()


def _reason(error: BaseException) -> str:
    """The first line of what went wrong at the root."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = first_line(error)[:200]
    return said if said == type(error).__name__ else f"{type(error).__name__}: {said}"
