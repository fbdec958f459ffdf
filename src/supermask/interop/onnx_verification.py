"""Whether an ONNX file computes what a model does: both are run on the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from supermask.errors import ExportError
from supermask.models import Base
from supermask.models.sources import first_line

__all__ = ["TOLERANCE", "largest_difference", "probe_batches"]

TOLERANCE: Final = 1e-4
"""How far logits may be from PyTorch's, in absolute value."""

_SHAPES: Final = ((1, 1), (1, 6), (2, 17), (5, 9), (3, 40), (2, 512))  # rows, longest row in tokens


def probe_batches(
    base: Base, names: Sequence[str], shapes: Sequence[tuple[int, int]] = _SHAPES, *, seed: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Random batches as the base's tokenizer would pad them: rows of falling length, in one batch of equal length.

    Args:
        base: says which tokens and lengths there are, and on which side padding goes.
        names: of the inputs.
        shapes: rows and length of each batch; a length is cut to what the model can read.
        seed: of the tokens.

    Yields:
        For each name a tensor of shape (rows, length): random words, 1 for tokens and 0 for padding, and a second half
        of the other token type.
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
    """Run a file under onnxruntime, and the model that it was made of under PyTorch, both on the CPU.

    Returns:
        The largest absolute difference of any logit; infinite if one of the two is not finite.
    """
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
