"""What is kept of a delta once it is measured: typed numbers of a run and of a pair of runs, and their files.

A delta of full fine-tuning is as large as its base and is not kept; these files are a few kilobytes and are.
"""

from __future__ import annotations

import json
import math
from abc import ABC
from pathlib import Path
from typing import Any, Literal, TypeVar, final

from pydantic import Field, ValidationError

from supermask.analysis import (
    MagnitudePruning,
    Magnitudes,
    OverlapCount,
    Significance,
    ZerosTable,
    overlap_significance,
    zeros_by_place,
)
from supermask.atomic import write_atomically
from supermask.configuration import Configuration, describe_faults
from supermask.errors import ConfigurationError, DataError

__all__ = ["PairMeasures", "PairTensor", "RunMeasures", "TensorMeasures"]

_MeasuresT = TypeVar("_MeasuresT", bound="_Measures")


@final
class TensorMeasures(Configuration):
    """One tensor that the delta changes; the head's are not among them.

    Args:
        name, role, block: of the tensor; None for a role that is not known, or outside the blocks.
        shape: as stored: (out, in) for a linear layer.
        changed: components that differ from the base (L0).
        zeros: of the thresholded or pruned mask; None if the method masks nothing here.
        l1: ‖θ - θ̃‖₁ / √n.
        largest_column_sum: max over columns of Σ|θ - θ̃|, the matrix norm ‖θ - θ̃‖₁; None for a vector. As far as its
            values for random initialisations tell, this is the L1 distance of the paper's Table 2 and Figure 2.
        largest_row_sum: the same over rows, which is that norm of the transposed matrix.
        angular: the angle between θ and θ̃, in units of π; None if one is all zeros.
        zeroed_max: largest magnitude, in the base, of the weights that are zero now; None without a mask or zeros.
        zeroed_mean: mean of these magnitudes.
    """

    name: str
    role: str | None = None
    block: int | None = None
    shape: tuple[int, ...]
    changed: int
    zeros: int | None = None
    l1: float
    largest_column_sum: float | None = None
    largest_row_sum: float | None = None
    angular: float | None = None
    zeroed_max: float | None = None
    zeroed_mean: float | None = None

    @property
    def weights(self) -> int:
        """Components of the tensor."""
        return math.prod(self.shape)

    @property
    def sparsity(self) -> float | None:
        """Zeros among its weights, in [0, 1]; None if the method masks nothing here."""
        return None if self.zeros is None else self.zeros / self.weights


class _Measures(Configuration, ABC):
    """Measures as a file."""

    def save(self, path: Path) -> None:
        """Write the measures as JSON, one tensor a line, whole or not at all."""
        content = self.model_dump(mode="json", exclude_none=True)
        rows = ",\n  ".join(json.dumps(tensor) for tensor in content.pop("tensors"))
        if "method" in content:
            content["method"] = dict(self)["method"]  # whose settings may be null and mean something by it
        head = json.dumps(content, indent=1).removesuffix("\n}")
        write_atomically(path, f'{head},\n "tensors": [\n  {rows}\n ]\n}}\n'.encode())

    @classmethod
    def load(cls: type[_MeasuresT], path: Path) -> _MeasuresT:
        """Read measures.

        Raises:
            DataError: if the file is missing, no JSON, or no such measures.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            raise DataError(f"{path}: is no measures file: {describe_faults(cls, error)}") from None


@final
class RunMeasures(_Measures):
    """A run's delta against its base.

    Zeros are of the deterministic mask: thresholded for a supermask, pruned for pruning. What a draw adds cannot be
    measured here, as a delta does not hold the mask logits; the record's `sampled_sparsity` has its total.

    Args:
        task, method, seed: as the delta names them; the method with its settings.
        delta, base: the delta's digest and the base's fingerprint.
        supermask, source: version and source digest of the code that measured.
        tensors: those the delta changes but for the head, in model order; all others are as in the base.
        zeroed: magnitudes, in the base, of the weights that are zero now; None if the method masks nothing.
        masked: magnitudes of all weights that the method could zero: what zeros that lie at random would have.
        magnitude_pruning: `global` and `tensor`; empty if the method masks nothing.
    """

    schema_version: Literal[1] = 1
    task: str | None = None
    method: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    delta: str
    base: str
    base_name: str | None = None
    supermask: str
    source: str
    tensors: tuple[TensorMeasures, ...]
    zeroed: Magnitudes | None = None
    masked: Magnitudes | None = None
    magnitude_pruning: tuple[MagnitudePruning, ...] = ()

    @property
    def zeros(self) -> int | None:
        """Zeros of all masked tensors; None if the method masks nothing."""
        return None if self.zeroed is None else self.zeroed.weights

    @property
    def masked_weights(self) -> int:
        """Weights of all masked tensors."""
        return 0 if self.masked is None else self.masked.weights

    @property
    def sparsity(self) -> float | None:
        """Thresholded (or pruned) zeros among the masked weights, in [0, 1]; None if the method masks nothing."""
        return self.zeros / self.masked_weights if self.zeros is not None and self.masked_weights else None

    def zeros_by_place(self) -> ZerosTable:
        """Zeros by role and block; a ConfigurationError if the method masks nothing."""
        return zeros_by_place(self.tensors)

    def against_magnitude(self, scope: Literal["global", "tensor"] = "global") -> MagnitudePruning | None:
        """The comparison with magnitude pruning of that scope; None if the method masks nothing."""
        return next((found for found in self.magnitude_pruning if found.scope == scope), None)


@final
class PairTensor(Configuration):
    """The zeros that two masks share in one tensor.

    Args:
        weights: that both masks could drop.
        first_zeros, second_zeros, shared: dropped by one of them, and by both.
        expected_given_rows_and_columns: shared, in expectation, if zeros lay at random but for how many each row and
            column has; see `OverlapCount`.
    """

    name: str
    role: str | None = None
    block: int | None = None
    weights: int
    first_zeros: int
    second_zeros: int
    shared: int
    expected_given_rows_and_columns: float

    @property
    def count(self) -> OverlapCount:
        """With what chance would give."""
        return OverlapCount.of_tensor(**self.model_dump(exclude={"name", "role", "block"}))


@final
class PairMeasures(_Measures):
    """The zeros that two runs' deltas share, of the deterministic masks.

    Args:
        first, second: labels of the runs, `task/label`.
        first_delta, second_delta, base: digests of their deltas and of the base.
        supermask, source: version and source digest of the code that measured.
        tensors: those that both mask, in model order.
    """

    schema_version: Literal[1] = 1
    first: str
    second: str
    first_delta: str
    second_delta: str
    base: str
    supermask: str
    source: str
    tensors: tuple[PairTensor, ...]

    @property
    def total(self) -> OverlapCount:
        """All tensors pooled."""
        return self.within()

    def within(self, *, role: str | None = None, block: int | None = None) -> OverlapCount:
        """Pooled over the tensors of a role, a block, or a role in a block, as `value` in block 0 for Figure 7.

        Raises:
            ConfigurationError: if no tensor that both mask is there.
        """
        return sum(self._counts(role, block), OverlapCount())

    def significance(self, *, role: str | None = None, block: int | None = None) -> Significance:
        """How surprising the shared zeros of these tensors are by chance; arguments and errors as of `within`."""
        return overlap_significance(self._counts(role, block))

    def _counts(self, role: str | None, block: int | None) -> list[OverlapCount]:
        found = [
            tensor.count
            for tensor in self.tensors
            if (role is None or tensor.role == role) and (block is None or tensor.block == block)
        ]
        if not found:
            where = " ".join(str(place) for place in (role, None if block is None else f"block {block}") if place)
            roles = ", ".join(dict.fromkeys(tensor.role or "unnamed" for tensor in self.tensors))
            raise ConfigurationError(
                f"{self.first} and {self.second} both mask no tensor{f' of {where}' if where else ''}; they both mask: "
                f"{roles or 'nothing'}"
            )
        return found
