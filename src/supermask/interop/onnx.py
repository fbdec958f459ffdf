"""A task model as an ONNX file that computes the same logits, which is checked, for whoever has no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor

from supermask.deltas import TaskDelta
from supermask.errors import ExportError
from supermask.interop.export_folder import check_new_folder, new_folder, task_config
from supermask.interop.onnx_graph import export_graph, float32_on_cpu, graph_inputs, require_onnx
from supermask.models import Base
from supermask.models.loading import quiet_transformers
from supermask.models.sources import first_line

__all__ = ["ONNX_FILE", "TOLERANCE", "OnnxExport", "largest_difference", "probe_batches", "save_onnx"]

ONNX_FILE: Final = "model.onnx"

TOLERANCE: Final = 1e-4
"""How far logits may be from PyTorch's, in absolute value."""

_SHAPES: Final = ((1, 1), (1, 6), (2, 17), (5, 9), (3, 40), (2, 512))  # rows, longest row in tokens
_EXAMPLE: Final = (3, 11)  # rows and tokens of the traced batch: no size that a model could have anywhere
_LARGE_NBYTES: Final = 1_500_000_000  # one protobuf file holds 2 GiB, and the graph needs room as well


@final
@dataclass(frozen=True, kw_only=True)
class OnnxExport:
    """What was written, and how well it was found to agree.

    Args:
        folder: holds the ONNX file, the tokenizer and the configuration.
        inputs: names of the graph's inputs, each int64 of shape (batch, sequence).
        opset: of the graph.
        largest_difference: of any logit from PyTorch's, in absolute value, over the batches that were tried; None if
            that was not asked for.
    """

    folder: Path
    inputs: tuple[str, ...]
    opset: int
    largest_difference: float | None

    @property
    def file(self) -> Path:
        """The ONNX file. Weights of more than 1.5 GB stand beside it in a file that it names."""
        return self.folder / ONNX_FILE


def save_onnx(
    base: Base, delta: TaskDelta, folder: str | Path, *, opset: int | None = None, verify: bool = True
) -> OnnxExport:
    """Merge a delta into its base and save the result as an ONNX graph, with tokenizer and configuration.

    The graph takes what the tokenizer gives and returns `logits` of shape (batch, outputs); batch and sequence may have
    any size. The written file is run by onnxruntime on batches of several sizes, lengths and paddings before it takes
    its place: one whose logits are farther than 1e-4 from PyTorch's is never left behind. The folder appears whole or
    not at all, and the base comes back as it was. Weights of 16 bits are widened to float32, exactly.

    Args:
        base: the delta's base, with a head of the task's size.
        delta: what the task has changed.
        folder: a place where nothing is yet; it gets `model.onnx` and the files of the tokenizer.
        opset: version of the ONNX operators; None for what torch's exporter recommends.
        verify: run the file and compare.

    Returns:
        What was written, and the largest difference found.

    Raises:
        MissingDependencyError: if onnx, onnxscript or onnxruntime is missing, or torch is too old.
        ConfigurationError: if there is no such opset, or torch has no operators for it.
        OutputError: if the place is taken, cannot be written to, or has too little space.
        BaseMismatchError: if the base is another one than the delta's.
        ExportError: if the architecture cannot be exported, or the file does not compute the same.
    """
    check_new_folder(folder)
    require_onnx(verify=verify, opset=opset)
    inputs = graph_inputs(base)
    nbytes = 4 * sum(parameter.numel() for parameter in base.model.parameters())
    difference = None
    with new_folder(folder, needed_nbytes=nbytes) as partial, delta.applied(base.model):
        with task_config(base, delta), quiet_transformers():
            base.model.config.save_pretrained(partial)
            base.tokenizer.save_pretrained(partial)
        with float32_on_cpu(base.model) as model:
            (example,) = probe_batches(base, inputs, [_EXAMPLE])
            program = export_graph(model, example, opset=opset)
            program.model.metadata_props.update(_properties(base, delta))
            program.save(str(partial / ONNX_FILE), external_data=nbytes > _LARGE_NBYTES)
            reached = program.model.opset_imports[""]
            del program
            if verify:
                difference = largest_difference(partial / ONNX_FILE, model, probe_batches(base, inputs))
                if difference > TOLERANCE:
                    raise ExportError(
                        f"the ONNX file of this {type(model).__name__} gives logits that differ from PyTorch's by up "
                        f"to {difference:.2g}, and {TOLERANCE:g} is allowed; nothing was written: try another opset, "
                        "or save the checkpoint instead"
                    )
    return OnnxExport(folder=Path(folder), inputs=inputs, opset=reached, largest_difference=difference)


def probe_batches(
    base: Base, names: Sequence[str], shapes: Sequence[tuple[int, int]] = _SHAPES, *, seed: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Random batches as the base's tokenizer would pad them: rows of falling length, in one batch of equal length.

    Args:
        base: says which tokens and lengths there are, and on which side padding goes.
        names: of the inputs, each of which gets a tensor of shape (rows, length).
        shapes: rows and length of each batch; a length is cut to what the model can read.
        seed: of the tokens.
    """
    config, tokenizer = base.model.config, base.tokenizer
    generator = torch.Generator().manual_seed(seed)
    special = set(tokenizer.all_special_ids)
    words = torch.tensor([word for word in range(min(len(tokenizer), config.vocab_size)) if word not in special])
    positions = getattr(config, "max_position_embeddings", None)
    longest = min(tokenizer.model_max_length, positions - 2 if isinstance(positions, int) and positions > 2 else 512)
    for rows, wanted in shapes:
        length = min(wanted, longest)
        lengths = torch.tensor([max(1, length - 3 * row * (rows > 2)) for row in range(rows)])
        place = torch.arange(length).expand(rows, length)
        if tokenizer.padding_side == "left":
            place = place.flip(1)
        attention_mask = (place < lengths[:, None]).long()  # (rows, length)
        input_ids = words[torch.randint(len(words), (rows, length), generator=generator)]
        if config.is_encoder_decoder:  # such a head reads the state at the end-of-sequence token
            input_ids[place == lengths[:, None] - 1] = config.eos_token_id
        input_ids[attention_mask == 0] = tokenizer.pad_token_id
        batch = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": (place >= length // 2).long() * attention_mask,
        }
        yield {name: batch[name] for name in names}


def largest_difference(file: Path, model: Any, batches: Iterator[dict[str, Tensor]]) -> float:
    """The largest absolute difference of any logit of a file from its model's; infinite if one is not finite."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong comes as an exception; standard error need not hear of it too
    largest = 0.0
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for batch in batches:
            with torch.no_grad():
                expected = model(**batch).logits
            (found,) = session.run(["logits"], {name: value.numpy() for name, value in batch.items()})
            logits = torch.from_numpy(found)
            if logits.shape != expected.shape or not (logits.isfinite().all() and expected.isfinite().all()):
                return float("inf")
            largest = max(largest, float((logits - expected).abs().max()))
    except Exception as error:  # its errors have no common class but Exception
        if type(error).__module__.startswith("onnxruntime"):
            raise ExportError(
                f"onnxruntime {onnxruntime.__version__} cannot run the ONNX file: {first_line(error)[:200]}; try "
                "another opset or version of onnxruntime"
            ) from error
        raise
    return largest


def _properties(base: Base, delta: TaskDelta) -> dict[str, str]:
    """What the file says about itself, to be read by any ONNX tool."""
    from supermask import __version__

    stored: dict[str, Any] = {
        "task": delta.task.name,
        "kind": delta.task.kind,
        "labels": json.dumps(delta.task.label_names, ensure_ascii=False),
        "delta": delta.digest,
        "base": delta.document.base.name or base.name,
        "base_revision": delta.document.base.revision,
        "base_fingerprint": delta.base.digest,
        "version": __version__,
    }
    return {f"supermask.{name}": str(value) for name, value in stored.items() if value is not None}
