"""What a delta says about itself: one frozen, typed JSON document that stands in the file before masks and values.

docs/FORMAT.md, section "The document", specifies each field.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from supermask.deltas.coding import VALUE_CODINGS, is_storable_shape, needs_reference
from supermask.deltas.fingerprint import SHORT_HASH, Fingerprint
from supermask.deltas.tensor_bytes import STORED_DTYPES
from supermask.errors import DeltaFormatError

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "MAX_TEXT",
    "BaseRecord",
    "ChangePlace",
    "ChangeRecord",
    "DataRecord",
    "DeltaDocument",
    "ListOf",
    "MethodRecord",
    "Name",
    "Sha256",
    "StoredDocument",
    "TaskRecord",
    "TrainingRecord",
    "describe_invalid",
    "oversize",
    "parse_json",
]

FORMAT_NAME = "supermask-delta"
FORMAT_VERSION = 1

MAX_TEXT = 1 << 22  # bytes of JSON: 10,000 tensors with long names
_MAX_PARTS = 1 << 18  # as many as a document of 10,000 tensors has
_MAX_ROWS = 100

_DocumentT = TypeVar("_DocumentT", bound="StoredDocument")
_ItemT = TypeVar("_ItemT")


def _table(value: object) -> object:
    if isinstance(value, dict) and len(value) > _MAX_ROWS:
        raise ValueError(f"{len(value)} entries, more than {_MAX_ROWS}")
    return value


def _hashes(value: object) -> object:
    for name, short in value.items() if isinstance(value, dict) else ():
        if not isinstance(short, str) or not _SHORT_HASH.fullmatch(short):
            raise ValueError(f"{str(name)[:100]!r} has no hash of {SHORT_HASH} hex digits")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{str(name)[:100]!r} is no name of 1 to 1000 characters that can be shown")
    return value


# Each of these stops at the first faults, since a hostile document has a hundred thousand of them.
_STEERING = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # what a terminal takes for more than text
_NAME = re.compile(rf"[^{_STEERING}]{{1,1000}}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHORT_HASH = re.compile(rf"[0-9a-f]{{{SHORT_HASH}}}")
_Count: TypeAlias = Annotated[int, Field(ge=0, lt=1 << 53)]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name: TypeAlias = Annotated[str, Field(max_length=1000, pattern=rf"^[^{_STEERING}]+$")]  # can be shown as it is
_Text: TypeAlias = Annotated[str, Field(max_length=1000)]
_Settings: TypeAlias = dict[str, JsonValue]
_Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
ListOf: TypeAlias = Annotated[tuple[_ItemT, ...], FailFast(), Field(strict=False)]
_Table: TypeAlias = Annotated[dict[Name, _ItemT], BeforeValidator(_table)]

_DESCRIPTIONS = ("method", "task", "training")
_OF_A_MASK = ("zeros", "keep_nbytes")
_OF_VALUES = ("dtype", "values_nbytes", "values_coding")


@final
@dataclass(frozen=True)
class ChangePlace:
    """Where in the model a tensor belongs, for the reader: its role, for example `query`, and its block, from 0."""

    role: str | None = None
    block: int | None = None


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        if cls.model_config.get("extra") == "forbid" and (unknown := value.keys() - cls.model_fields.keys()):
            others = "; anything else goes into notes" if "notes" in cls.model_fields else ""
            raise ValueError(f"{str(unknown.pop())[:100]!r} is no field; fields: {', '.join(cls.model_fields)}{others}")
        return dict(value)


@final
class ChangeRecord(_Record):
    """One changed tensor: what is done to it, how many weights its mask drops, and how long its payloads are."""

    name: Name
    role: Name | None = None
    block: _Count | None = None
    kind: Literal["keep_mask", "dense_values", "sparse_values"]
    shape: ListOf[_Count]
    zeros: _Count | None = None
    keep_nbytes: _Count | None = None
    dtype: str | None = None
    values_nbytes: _Count | None = None
    values_coding: str | None = None

    @property
    def weights(self) -> int:
        """The size of the tensor."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its payloads in the file."""
        return (self.keep_nbytes or 0) + (self.values_nbytes or 0)

    @model_validator(mode="after")
    def _consistent(self) -> ChangeRecord:
        if not is_storable_shape(self.shape):
            raise ValueError(f"{self.name}: shape {self.shape} is beyond the format's limit")
        masked, valued = self.kind != "dense_values", self.kind != "keep_mask"
        for fields, wanted in ((_OF_A_MASK, masked), (_OF_VALUES, valued)):
            if any((getattr(self, field) is not None) != wanted for field in fields):
                raise ValueError(f"{self.name}: {self.kind} must {'' if wanted else 'not '}have {', '.join(fields)}")
        if self.zeros is not None and self.zeros > self.weights:
            raise ValueError(f"{self.name}: {self.zeros} zeros among {self.weights} weights")
        if self.keep_nbytes == 0:
            raise ValueError(f"{self.name}: a keep mask has at least 1 byte")
        if self.dtype is not None and self.values_nbytes is not None:
            if self.dtype not in STORED_DTYPES:
                raise ValueError(f"{self.name}: dtype {self.dtype!r} is none of {', '.join(STORED_DTYPES)}")
            if self.values_coding not in VALUE_CODINGS:
                raise ValueError(f"{self.name}: coding {self.values_coding!r} is none of {', '.join(VALUE_CODINGS)}")
            raw = (self.weights - (self.zeros or 0)) * STORED_DTYPES[self.dtype].itemsize
            if self.values_nbytes > raw or (self.values_coding == "raw") != (self.values_nbytes == raw):
                raise ValueError(f"{self.name}: {self.values_nbytes} bytes of values do not fit its shape and zeros")
        return self


@final
class BaseRecord(_Record):
    """The base a delta was learnt on. Name and revision are for the reader; the digest is what is checked."""

    name: Name | None = None
    revision: Name | None = None
    architecture: Name
    dtype: Name
    digest: Sha256
    tensors: Annotated[dict[str, str], BeforeValidator(_hashes)]

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint that a model must have for the delta to be applied."""
        return Fingerprint(digest=self.digest, tensors=self.tensors, dtype=self.dtype, name=self.name)


@final
class TaskRecord(_Record):
    """What was learnt; all of it is optional.

    Args:
        name, version: of the task and of its definition.
        kind: `classification` or `regression`.
        label_names: of the classes, in the order of the head's outputs.
        metrics: by name, the main one first.
        paired: whether an example is a pair of texts.
    """

    name: _Text | None = None
    version: _Count | None = None
    kind: Name | None = None
    label_names: ListOf[_Text] = ()
    metrics: ListOf[Name] = ()
    paired: bool | None = None


@final
class MethodRecord(_Record):
    """How it was learnt: the method's kind and its settings, as `Method.describe` gives them."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, JsonValue]

    kind: Name | None = None

    @property
    def settings(self) -> dict[str, JsonValue]:
        """All but the kind."""
        return dict(self.__pydantic_extra__)

    def describe(self) -> dict[str, JsonValue]:
        """Kind and settings together, for `method_from_description`."""
        return {"kind": self.kind, **self.settings} if self.kind is not None else self.settings


@final
class DataRecord(_Record):
    """The examples of one split: how many, from where, their hash, and how many the official split has."""

    examples: _Count | None = None
    source: _Text | None = None
    content_hash: Name | None = None
    official_size: _Count | None = None


@final
class TrainingRecord(_Record):
    """How the training went; all of it is optional.

    Args:
        config: the training's settings, as `TrainingConfig` dumps them.
        precision: of the arithmetic: `fp32`, `bf16` or `fp16`.
        steps: of the optimizer.
        data, scores: what was read, by split, and what was scored, by split and metric.
        supermask, source: the version of this package, and a hash of its code.
        notes: whatever else the maker of the delta wants to say.
    """

    config: _Settings = {}
    precision: Name | None = None
    steps: _Count | None = None
    data: _Table[DataRecord] = {}
    scores: _Table[_Table[_Number]] = {}
    supermask: Name | None = None
    source: Name | None = None
    notes: _Settings = {}

    @property
    def seed(self) -> int | None:
        """The seed among the settings, if there is one."""
        seed = self.config.get("seed")
        return seed if type(seed) is int else None


class StoredDocument(_Record, ABC):
    """What a file says about itself; the payloads of its changes stand behind it, end to end."""

    method: MethodRecord = MethodRecord()
    task: TaskRecord = TaskRecord()
    changes: Annotated[ListOf[ChangeRecord], Field(min_length=1)]
    payloads_sha256: Sha256

    @property
    def weights(self) -> int:
        """How many weights have a keep mask."""
        return sum(change.weights for change in self.changes if change.zeros is not None)

    @property
    def zeros(self) -> int:
        """How many of them are dropped."""
        return sum(change.zeros for change in self.changes if change.zeros is not None)

    @property
    def payloads_nbytes(self) -> int:
        """Bytes of all payloads in the file."""
        return sum(change.nbytes for change in self.changes)

    def to_json(self) -> str:
        """The document as JSON: sorted keys, no white space, nothing absent; equal documents give equal text."""
        # Only our own records leave out what is absent: a null among the settings is the method's to mean something by.
        described = {name: record.model_dump(exclude_unset=True) for name, record in self._described.items()}
        content = {
            **self.model_dump(exclude=set(described), exclude_none=True),
            **{name: told for name, told in described.items() if told},
        }
        return json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls: type[_DocumentT], text: bytes, where: str) -> _DocumentT:
        """Read a document, checking every field; a DeltaFormatError says where, which are wrong and how."""
        try:
            return cls.model_validate(parse_json(text, where))
        except ValidationError as error:
            raise DeltaFormatError(f"{where}: {describe_invalid(error)}") from None

    @property
    def _described(self) -> dict[str, BaseModel]:
        return {name: getattr(self, name) for name in _DESCRIPTIONS if hasattr(self, name)}

    @model_validator(mode="after")
    def _writable(self) -> StoredDocument:
        if len({change.name for change in self.changes}) < len(self.changes):
            raise ValueError("a tensor is named twice")
        for name, record in self._described.items():
            _require_json(record.model_dump(mode="json"), name)
        for change in self.changes:
            _require_json(change.name, "name")
        return self


@final
class DeltaDocument(StoredDocument):
    """All that a delta says about itself."""

    base: BaseRecord
    head: ListOf[Name] = ()
    training: TrainingRecord = TrainingRecord()

    @property
    def sparsity(self) -> float:
        """Zeros among the masked weights, in [0, 1]; 0 if no weight is masked."""
        return self.zeros / self.weights if self.weights else 0.0

    @property
    def digest(self) -> str:
        """SHA-256 of the document in hex, and through it of the payloads: the identity of the delta."""
        return hashlib.sha256(self.to_json().encode("utf-8")).hexdigest()

    @model_validator(mode="after")
    def _consistent(self) -> DeltaDocument:
        changes = {change.name: change for change in self.changes}
        if len(set(self.head)) != len(self.head):
            raise ValueError("a tensor is named twice")
        for name in self.head:
            change = changes.get(name)
            if change is None or change.kind != "dense_values" or name in self.base.tensors:
                raise ValueError(f"{name}: a head tensor comes with dense values and is no tensor of the base")
            if needs_reference(str(change.values_coding)):
                raise ValueError(f"{name}: a head tensor cannot be coded against the base, which has none")
        if strangers := changes.keys() - self.base.tensors.keys() - set(self.head):
            raise ValueError(f"{min(strangers)}: changed, but neither a tensor of the base nor of the head")
        for text in (*self.base.tensors, self.base.architecture, self.base.name, self.base.revision):
            _require_json(text, "name")
        return self


def parse_json(text: bytes, where: str) -> Any:
    """Parse JSON strictly: UTF-8, no key twice in an object, of bounded size; a DeltaFormatError says where not."""
    if fault := oversize(text):
        raise DeltaFormatError(f"{where}: {fault}")
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DeltaFormatError(f"{where}: not valid JSON ({_one_line(error)})") from None


def oversize(text: bytes) -> str:
    """Why JSON is larger than anything here is; empty if it is not."""
    if len(text) > MAX_TEXT:
        return f"{len(text)} bytes of JSON, more than {MAX_TEXT}"
    parts = sum(map(text.count, (b",", b":", b"[", b"{")))
    return f"JSON of {parts} parts, more than {_MAX_PARTS}" if parts > _MAX_PARTS else ""


def describe_invalid(error: ValidationError) -> str:
    """Pydantic's report in one line, the first few faults named."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False)[:3]:
        place = ".".join(str(part) for part in fault["loc"])
        faults.append(_one_line(f"{place + ': ' if place else ''}{fault['msg'].removeprefix('Value error, ')}"))
    more = error.error_count() - len(faults)
    return "; ".join(faults) + (f"; and {more} more" if more else "")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _require_json(value: object, place: str) -> None:
    """Refuse numbers that are not finite, and halves of surrogate pairs."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: {value} is no JSON number; use null")
    if isinstance(value, str) and _SURROGATE.search(value):
        raise ValueError(f"{place}: {value!r} is not valid Unicode")
    if isinstance(value, dict):
        for key, inner in value.items():
            _require_json(key, f"{place}.{key!r}")
            _require_json(inner, f"{place}.{key}")
    if isinstance(value, list):
        for inner in value:
            _require_json(inner, place)


def _one_line(message: object) -> str:
    text = " ".join(str(message).split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 300 else text[:297] + "..."
