"""The smallest delta that has a mask and values, as a file, and what tests of damaged files share."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn

from deltas import reference_format
from supermask.deltas import Change, DenseValues, KeepMask, TaskDelta, fingerprint
from supermask.errors import DeltaFormatError

Edit: TypeAlias = Callable[[dict[str, Any]], Any]


def smallest_base() -> dict[str, Tensor]:
    return {"w": torch.arange(6.0)}


def smallest_changes() -> dict[str, Change]:
    keep = torch.tensor([True, False, True, True, False, True])
    return {"w": KeepMask(keep), "h": DenseValues(torch.tensor([1.0, -2.0]))}


def smallest_model() -> nn.Module:
    model = nn.Module()
    model.w, model.h = nn.Parameter(torch.arange(6.0)), nn.Parameter(torch.zeros(2))
    return model


def smallest_delta(**described: Any) -> TaskDelta:
    return TaskDelta.create(smallest_changes(), base=fingerprint(smallest_base()), head=["h"], **described)


def smallest_file() -> bytes:
    return reference_format.file_bytes(smallest_changes(), base=smallest_base(), head=["h"])


def with_document(edit: Edit) -> bytes:
    """The smallest file, its document edited by somebody who put the right hash beside it."""
    file = reference_format.split(smallest_file())
    document = file.document
    edit(document)
    return reference_format.joined(json.dumps(document), file.payloads)


def file_bytes(delta: TaskDelta) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return delta.save(Path(folder) / "x.safetensors").read_bytes()


def load_bytes(folder: Path, data: bytes) -> TaskDelta:
    path = folder / "x.safetensors"
    path.write_bytes(data)
    return TaskDelta.load(path)


def refused(folder: Path, data: bytes) -> str:
    """The message with which a file is refused: it names the file and can be shown on any terminal."""
    with pytest.raises(DeltaFormatError) as caught:
        load_bytes(folder, data)
    message = str(caught.value)
    assert message.isprintable()
    assert "x.safetensors" in message
    return message


def set_first(**fields: Any) -> Edit:
    """An edit of a document's first change."""
    return lambda document: document["changes"][0].update(fields)
