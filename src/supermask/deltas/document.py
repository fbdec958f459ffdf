"""What a delta says about itself: one frozen, typed JSON document that stands in the file's header.

Everything but the masks and values themselves is here, so `supermask inspect` reads headers alone. docs/FORMAT.md,
section "The document", specifies each field.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from supermask.deltas.codec import is_storable_shape
from supermask.deltas.fingerprint import Fingerprint
from supermask.deltas.tensor_bytes import STORED_DTYPES
from supermask.deltas.value_codec import VALUE_CODINGS, needs_reference
from supermask.errors import DeltaFormatError

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "BaseRecord",
    "ChangePlace",
    "ChangeRecord",
    "DataRecord",
    "DeltaDocument",
    "MethodRecord",
    "PayloadRecord",
    "TaskRecord",
    "TrainingRecord",
    "describe_invalid",
    "parse_document",
    "parse_json",
]

FORMAT_NAME = "supermask-delta"
FORMAT_VERSION = 2
"""What is written. Version 1 is read, and written again where it was read."""

_Count = Annotated[int, Field(ge=0, lt=1 << 53)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Crc32 = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
_ShortHash = Annotated[str, Field(pattern=r"^([0-9a-f]{8}){1,2}$")]
_STEERING = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # what a terminal takes for more than text
_Name = Annotated[str, Field(max_length=1000, pattern=rf"^[^{_STEERING}]+$")]  # messages can show it as it is
_Text = Annotated[str, Field(max_length=1000)]
_Settings = dict[str, JsonValue]
_Number = Annotated[float, Field(allow_inf_nan=False, strict=False)]

_KINDS: dict[str, tuple[bool, bool]] = {  # kind: has a keep mask, has values
    "keep_mask": (True, False),
    "dense_values": (False, True),
    "sparse_values": (True, True),
}


@final
@dataclass(frozen=True)
class ChangePlace:
    """Where in the model a tensor belongs, for the reader; nothing is decided by it.

    Args:
        role: what the tensor does, for example `query`.
        block: which block it is in, counted from 0.
    """

    role: str | None = None
    block: int | None = None


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@final
class PayloadRecord(_Record):
    """One payload of the file: how long it is, its checksum, and how it is coded.

    Version 1 has `sha256` alone, version 2 `crc32`, and `coding` for values.
    """

    nbytes: _Count
    sha256: _Sha256 | None = None
    crc32: _Crc32 | None = None
    coding: str | None = None


@final
class ChangeRecord(_Record):
    """One changed tensor: what is done to it, and the payloads that say how."""

    name: _Name
    role: _Name | None = None
    block: _Count | None = None
    kind: Literal["keep_mask", "dense_values", "sparse_values"]
    shape: tuple[_Count, ...]
    dtype: str | None = None
    zeros: _Count | None = None
    keep: PayloadRecord | None = None
    values: PayloadRecord | None = None
    rounded: Literal["bfloat16", "float16"] | None = None

    @property
    def weights(self) -> int:
        """The size of the tensor."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its payloads in the file."""
        return sum(payload.nbytes for payload in (self.keep, self.values) if payload)

    @model_validator(mode="after")
    def _consistent(self) -> ChangeRecord:
        masked, valued = _KINDS[self.kind]
        if not is_storable_shape(self.shape):
            raise ValueError(f"{self.name}: shape {self.shape} is beyond the format's limit")
        if masked != (self.keep is not None) or masked != (self.zeros is not None):
            raise ValueError(f"{self.name}: {self.kind} must {'' if masked else 'not '}have zeros and keep")
        if valued != (self.values is not None) or valued != (self.dtype is not None):
            raise ValueError(f"{self.name}: {self.kind} must {'' if valued else 'not '}have dtype and values")
        if self.zeros is not None and self.zeros > self.weights:
            raise ValueError(f"{self.name}: {self.zeros} zeros among {self.weights} weights")
        if self.dtype is not None and self.values is not None:
            if self.dtype not in STORED_DTYPES:
                raise ValueError(f"{self.name}: dtype {self.dtype!r} is none of {', '.join(STORED_DTYPES)}")
            if self.values.coding not in (None, *VALUE_CODINGS):
                raise ValueError(f"{self.name}: coding {self.values.coding!r} is none of {', '.join(VALUE_CODINGS)}")
            itemsize = STORED_DTYPES[self.dtype][0].itemsize if self.rounded is None else 2
            raw = (self.weights - (self.zeros or 0)) * itemsize
            fits = self.values.nbytes == raw if self.values.coding in (None, "raw") else self.values.nbytes < raw
            if not fits:
                raise ValueError(f"{self.name}: {self.values.nbytes} bytes of values do not fit its shape and zeros")
        if self.rounded is not None and self.dtype not in ("float32", "float64"):
            raise ValueError(f"{self.name}: {self.dtype or 'no'} values cannot have been rounded to {self.rounded}")
        return self


@final
class BaseRecord(_Record):
    """The base a delta was learnt on. Name and revision are for the reader; the digest is what is checked."""

    name: _Name | None = None
    revision: _Name | None = None
    architecture: _Name
    dtype: _Name
    digest: _Sha256
    tensors: dict[_Name, _ShortHash]

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint that a model must have for the delta to be applied."""
        return Fingerprint(digest=self.digest, tensors=self.tensors, dtype=self.dtype)


@final
class TaskRecord(_Record):
    """What was learnt; all of it is optional, and what is told is typed.

    Args:
        name: of the task.
        version: of its definition.
        kind: `classification` or `regression`.
        label_names: of the classes, in the order of the head's outputs.
        metrics: by name, the main one first.
        paired: whether an example is a pair of texts.
    """

    name: _Text | None = None
    version: _Count | None = None
    kind: _Name | None = None
    label_names: tuple[_Text, ...] = ()
    metrics: tuple[_Name, ...] = ()
    paired: bool | None = None


@final
class MethodRecord(_Record):
    """How it was learnt: the method's kind, and beside it its settings, as `Method.describe` gives them."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    __pydantic_extra__: dict[str, JsonValue]

    kind: _Name | None = None

    @property
    def settings(self) -> dict[str, JsonValue]:
        """All but the kind."""
        return dict(self.__pydantic_extra__)

    def describe(self) -> dict[str, JsonValue]:
        """Kind and settings together, for `method_from_description`; empty if nothing was told."""
        return {"kind": self.kind, **self.settings} if self.kind is not None else self.settings


@final
class DataRecord(_Record):
    """The examples of one split: how many, from where, their hash, and how many the official split has."""

    examples: _Count | None = None
    source: _Text | None = None
    content_hash: _Name | None = None
    official_size: _Count | None = None


@final
class TrainingRecord(_Record):
    """How the training went; all of it is optional, and what is told is typed.

    Args:
        config: the training's settings, as `TrainingConfig` dumps them.
        precision: of the arithmetic: `fp32`, `bf16` or `fp16`.
        steps: of the optimizer.
        data: what was read, by split.
        scores: by split and metric, in [-1, 1] or whatever the metric gives.
        supermask: the version of this package.
        source: a hash of its code.
        notes: whatever else the maker of the delta wants to say.
    """

    config: _Settings = {}
    precision: _Name | None = None
    steps: _Count | None = None
    data: dict[_Name, DataRecord] = {}
    scores: dict[_Name, dict[_Name, _Number]] = {}
    supermask: _Name | None = None
    source: _Name | None = None
    notes: _Settings = {}

    @property
    def seed(self) -> int | None:
        """The seed among the settings, if there is one."""
        seed = self.config.get("seed")
        return seed if type(seed) is int else None


@final
class DeltaDocument(_Record):
    """All that a delta says about itself."""

    format: Literal["supermask-delta"]
    version: Literal[1, 2]
    base: BaseRecord
    head: tuple[_Name, ...]
    method: MethodRecord = MethodRecord()
    task: TaskRecord = TaskRecord()
    training: TrainingRecord = TrainingRecord()
    changes: tuple[ChangeRecord, ...] = Field(min_length=1)
    payloads_sha256: _Sha256 | None = None

    @property
    def weights(self) -> int:
        """How many weights have a keep mask."""
        return sum(change.weights for change in self.changes if change.zeros is not None)

    @property
    def zeros(self) -> int:
        """How many of them are dropped."""
        return sum(change.zeros for change in self.changes if change.zeros is not None)

    @property
    def sparsity(self) -> float:
        """Zeros among the masked weights, in [0, 1]; 0 if no weight is masked."""
        return self.zeros / self.weights if self.weights else 0.0

    @property
    def digest(self) -> str:
        """SHA-256 of the document in hex. It covers the hash of every payload, so it is the identity of the delta."""
        return hashlib.sha256(self.to_json().encode("utf-8")).hexdigest()

    def to_json(self, *, indent: int | None = None) -> str:
        """The document as JSON: sorted keys, absent fields left out.

        Args:
            indent: spaces per level, for people; without it there is no white space at all.

        Returns:
            The text; equal documents give equal text.
        """
        content: dict[str, Any] = {name: getattr(self, name) for name in ("format", "version", "head")}
        for name in ("method", "task", "training"):
            content[name] = getattr(self, name).model_dump(exclude_unset=True)
        # Only our own records leave out what is absent: a null among the settings is the method's to mean something by.
        content["base"] = self.base.model_dump(exclude_none=True)
        content["changes"] = [change.model_dump(exclude_none=True) for change in self.changes]
        if self.payloads_sha256 is not None:
            content["payloads_sha256"] = self.payloads_sha256
        separators = (",", ":") if indent is None else None
        return json.dumps(
            content, indent=indent, separators=separators, sort_keys=True, ensure_ascii=False, allow_nan=False
        )

    @field_validator("version", mode="before")
    @classmethod
    def _whole_number(cls, value: object) -> object:
        if type(value) is not int:  # 2.0 and True are equal to what is allowed
            raise ValueError(f"{value!r} is no whole number")
        return value

    @model_validator(mode="after")
    def _of_its_version(self) -> DeltaDocument:
        second = self.version == 2
        if second != (self.payloads_sha256 is not None):
            raise ValueError(f"version {self.version} must {'' if second else 'not '}have payloads_sha256")
        if any(len(short) != (8 if second else 16) for short in self.base.tensors.values()):
            raise ValueError(f"version {self.version} has {8 if second else 16} hex digits for each tensor of the base")
        for change in self.changes:
            if change.rounded is not None and not second:
                raise ValueError(f"{change.name}: version 1 knows no rounded values")
            if second and change.keep is not None and not change.keep.nbytes:
                raise ValueError(f"{change.name}: a keep mask of version 2 has at least 1 byte")
            for payload, valued in ((change.keep, False), (change.values, True)):
                if payload is None:
                    continue
                expected = (not second, second, second and valued)
                if (payload.sha256 is not None, payload.crc32 is not None, payload.coding is not None) != expected:
                    fields = ("crc32 and coding" if valued else "crc32") if second else "sha256"
                    raise ValueError(f"{change.name}: a payload of version {self.version} has nbytes, {fields}")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> DeltaDocument:
        kinds = {change.name: change.kind for change in self.changes}
        if len(kinds) != len(self.changes) or len(set(self.head)) != len(self.head):
            raise ValueError("a tensor is named twice")
        for name in self.head:
            if kinds.get(name) != "dense_values" or name in self.base.tensors:
                raise ValueError(f"{name}: a head tensor comes with dense values and is no tensor of the base")
        for change in self.changes:
            coding = change.values.coding if change.values is not None else None
            if change.name in self.head and coding is not None and needs_reference(coding):
                raise ValueError(f"{change.name}: a head tensor cannot be coded against the base, which has none")
        if strangers := kinds.keys() - self.base.tensors.keys() - set(self.head):
            raise ValueError(f"{min(strangers)}: changed, but neither a tensor of the base nor of the head")
        for section in ("method", "task", "training"):
            _require_json(getattr(self, section).model_dump(mode="json"), section)
        for text in (*kinds, *self.base.tensors, self.base.architecture, self.base.name, self.base.revision):
            _require_json(text, "name")
        return self


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse JSON strictly: UTF-8, no key twice in an object.

    Args:
        text: the JSON.
        where: what it is, for the message.

    Raises:
        DeltaFormatError: if it is not such JSON.

    Example:
        >>> parse_json('{"a": 1, "a": 2}', "header")
        Traceback (most recent call last):
        supermask.errors.DeltaFormatError: header: not valid JSON (the key 'a' stands twice in one object)
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise DeltaFormatError(f"{where}: not valid JSON ({_one_line(error)})") from None


def parse_document(text: str | bytes, where: str) -> DeltaDocument:
    """Read a document, checking every field.

    Args:
        text: the JSON.
        where: what it is, for the message.

    Raises:
        DeltaFormatError: saying which fields are wrong and how.
    """
    parse_json(text, where)
    try:
        return DeltaDocument.model_validate_json(text)
    except ValidationError as error:
        raise DeltaFormatError(f"{where}: {describe_invalid(error)}") from None


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
    """Refuse what JSON or UTF-8 cannot hold: numbers that are not finite, halves of surrogate pairs."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: {value} is no JSON number; use null")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{place}: {value!r} is not valid Unicode") from None
    elif isinstance(value, dict):
        for key, inner in value.items():
            _require_json(key, f"{place}.{key!r}")
            _require_json(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _require_json(inner, place)


def _one_line(message: object) -> str:
    text = " ".join(str(message).split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 300 else text[:297] + "..."
