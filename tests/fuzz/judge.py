"""The property: whatever the bytes, a file gives the right delta, a well-formed other one, or a named error.

And nothing else: no other exception, no write, no more than a second, no more memory than the bound.
"""

import re
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from fuzz.bases import FuzzBase, base_named, bits_of
from fuzz.seeds import seeds
from supermask.deltas import (
    Change,
    DeltaDocument,
    DenseValues,
    KeepMask,
    SparseValues,
    TaskDelta,
    read_document,
)
from supermask.errors import BaseMismatchError, DeltaFormatError, DeltaStateError

NAMED = (DeltaFormatError, DeltaStateError, BaseMismatchError)
"""All that may be raised."""

CPU_SECONDS = 1.0
"""How much processor time a file may take, all told."""

LONGEST_MESSAGE = 10_000  # characters; names have up to 1000, and a few may be told
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
LARGEST_DECODED = 1 << 22  # weights: what is decoded without a base is as large as the file claims, so not beyond this


class Violation(AssertionError):
    """The property does not hold for a file."""


@final
class Refusal(NamedTuple):
    """A named error, without its traceback: kept together with what it refers to, that is never set free."""

    error: type[Exception]
    message: str


@final
class Verdict(NamedTuple):
    """What became of a file: `right`, `other` (a well-formed other delta, applied), or where it was refused."""

    outcome: str
    message: str
    decoded: int
    cpu_seconds: float


def loaded(data: bytes) -> TaskDelta:
    """The delta of an intact file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "delta.safetensors"
        file.write_bytes(data)
        return TaskDelta.load(file)


def judge(data: bytes, base: str, folder: Path, *, sealed: bool = True, limit_seconds: float = CPU_SECONDS) -> Verdict:
    """Load, decode and apply a file in an empty folder, left empty; unless `sealed`, only intact ones may load."""
    file = folder / "delta.safetensors"
    file.write_bytes(data)
    start = time.process_time()
    try:
        outcome, message, decoded = _judged(file, base_named(base), sealed)
    finally:
        seconds = time.process_time() - start
        left, written = file.read_bytes(), sorted(path.name for path in folder.iterdir())
        file.unlink()
    _require(left == data and written == [file.name], f"the file was written to, or others beside it: {written}")
    _require(seconds <= limit_seconds, f"took {seconds:.2f} s of processor time")
    return Verdict(outcome, message, decoded, seconds)


def _judged(file: Path, base: FuzzBase, sealed: bool) -> tuple[str, str, int]:
    told = attempt(lambda: read_document(file))
    delta = attempt(lambda: TaskDelta.load(file))
    if isinstance(delta, Refusal):
        _require(delta.error is DeltaFormatError, f"loading raised {delta}")
        return "refused at load", delta.message, 0
    _require(isinstance(told, DeltaDocument) and told == delta.document, "read_document and load disagree")
    known = _known().get(delta.digest)
    _require(sealed or known is not None, "a file with a wrong hash was loaded")
    attempt(lambda: delta.needs_base)
    changes, fault = _decode_all(delta, base)
    if known is not None:
        _require(not fault, f"an intact delta was refused: {fault}")
        _require(changes == known, "an intact delta decodes to something else")
    applied = _apply(delta, base)
    if applied:
        return ("refused at decoding" if fault else "refused at applying"), fault or applied, len(changes)
    _require(not fault, f"applied, though {fault}")
    return ("right" if known is not None else "other"), "", len(changes)


def _decode_all(delta: TaskDelta, base: FuzzBase) -> tuple[dict[str, Any], str]:
    """Every change, with the right base, with none and with a wrong one, and the first refusal with the right one."""
    found, fault = {}, ""
    with_base, alone = delta.changes_for(base.model), delta.changes_for({})
    askew = delta.changes_for({name: _askew(tensor) for name, tensor in base.tensors.items()})
    for record in delta.document.changes:
        change = attempt(lambda: with_base[record.name])  # noqa: B023
        if isinstance(change, Refusal):
            fault = fault or change.message
        else:
            _check_change(change, record)
            found[record.name] = _as_bits(change)
        if record.weights > LARGEST_DECODED:
            continue
        other = attempt(lambda: alone[record.name])  # noqa: B023
        if not isinstance(other, Refusal):
            _check_change(other, record)
            misfits = isinstance(change, Refusal) and change.error is BaseMismatchError
            same = misfits or _as_bits(other) == found.get(record.name)
            _require(same, f"{record.name} decodes to something else without the base")
        attempt(lambda: askew[record.name])  # noqa: B023
    return found, fault


def _apply(delta: TaskDelta, base: FuzzBase) -> str:
    """Put the delta on the model and take it off again; the refusal, if there is one."""
    model = base.model
    result = attempt(lambda: delta.apply_(model))
    if isinstance(result, Refusal) and result.error is BaseMismatchError:
        # The fingerprint guards what comes after; those who do without it must be as safe.
        _require(_unchanged(base), "a refused delta left its marks on the model")
        result = attempt(lambda: delta.apply_(model, verify=False))
    if isinstance(result, Refusal):
        _require(_unchanged(base), "a refused delta left its marks on the model")
        return result.message
    try:
        _check_model(delta, base)
    finally:
        delta.remove_(model)
    _require(_unchanged(base), "the model is another one after removal")
    return ""


def _check_model(delta: TaskDelta, base: FuzzBase) -> None:
    """Each tensor of a model with the delta on it, against the change that was decoded."""
    olds = {name: _from_bits(base.bits[name], tensor) for name, tensor in base.tensors.items()}
    expected = dict(base.bits)
    for name, change in delta.changes_for(olds).items():
        expected[name] = bits_of(change.apply(olds[name]))
    for name, twin in (("embedding.weight", "decoder.weight"), ("decoder.weight", "embedding.weight")):
        if name in delta.document.base.tensors and expected.get(name) != base.bits.get(name):
            expected[twin] = expected[name]
    for name, tensor in base.tensors.items():
        _require(bits_of(tensor) == expected[name], f"{name} is not what its change makes of it")


def _check_change(change: Change, record: Any) -> None:
    _require(change.shape == record.shape, f"{record.name} has another shape than stated")
    if isinstance(change, KeepMask | SparseValues):
        mask = change.positions
        _require(mask.zeros == change.zeros == record.zeros, f"{record.name} has another number of zeros than stated")
        _require(mask.shape == record.shape, f"{record.name}: the mask has another shape")
        if isinstance(change, SparseValues):
            _require(change.values.shape == (record.weights - record.zeros,), f"{record.name}: wrong number of values")
    if isinstance(change, DenseValues | SparseValues):
        _require(str(change.values.dtype) == f"torch.{record.dtype}", f"{record.name} has another dtype than stated")
    _require(type(change).__name__ == record.kind.title().replace("_", ""), f"{record.name} is of another kind")


def _as_bits(change: Change) -> tuple[Any, ...]:
    keep = () if isinstance(change, DenseValues) else (change.positions.positions.tobytes(), change.positions.dropped)
    values = b"" if isinstance(change, KeepMask) else bits_of(change.values)
    return (*keep, values)


def _known() -> Mapping[str, Mapping[str, Any]]:
    if not _KNOWN:
        for seed in seeds():
            delta = loaded(seed.data)
            _KNOWN[delta.digest] = {
                name: _as_bits(change) for name, change in delta.changes_for(base_named(seed.base).model).items()
            }
    return _KNOWN


_KNOWN: dict[str, dict[str, Any]] = {}


def _askew(tensor: Tensor) -> Tensor:
    """A tensor of another base: of another shape, or dtype."""
    if tensor.dim() == 2:
        return tensor.detach()[1:]
    return tensor.detach().reshape(-1).to(torch.float16 if tensor.dtype is torch.float32 else torch.float32)


def _from_bits(data: bytes, like: Tensor) -> Tensor:
    if not data:
        return torch.empty(like.shape, dtype=like.dtype)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(like.dtype).reshape(like.shape)


def _unchanged(base: FuzzBase) -> bool:
    return all(bits_of(tensor) == base.bits[name] for name, tensor in base.tensors.items())


def attempt(action: Callable[[], Any], named: tuple[type[Exception], ...] = NAMED) -> Any:
    """What an action gives, or how it was refused."""
    try:
        return action()
    except named as error:
        message = str(error)
        _require(bool(message) and len(message) < LONGEST_MESSAGE, f"a message of {len(message)} characters")
        _require(not STEERING.search(message), f"a message that a terminal may take for more than text: {message!r}")
        return Refusal(type(error), message)
    except (Violation, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise Violation(f"{type(error).__name__}: {error}") from error


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Violation(what)
