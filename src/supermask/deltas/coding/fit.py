"""Finding a mask's model: what describing each part saves, against what it costs to describe.

Nothing here is part of the format: a better search writes smaller payloads that every reader reads.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeAlias, final

import numpy as np
import numpy.typing as npt

from supermask.deltas.coding.model import MAGNITUDES, MAX_STEP, OFFSETS, BaseBits, MaskModel, sort_weights
from supermask.deltas.keep_mask import MaskPositions

__all__ = ["fit_mask_model"]

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[Any]

_STEP = math.log(2) / 2  # half an octave of odds, in nats
_SMALLEST = 512  # weights: below, a model cannot pay for its head
_FEWEST = 8  # weights of the rarer kind, likewise
_ABOVE_MEDIAN = 20  # of the MAGNITUDES ranges; the others lie at the median and below
_REACH = 6  # the largest step of a fitted vector over rows or columns
_NARROWEST = 8  # weights in a row or column; a step for fewer does not pay
_TURNS = 4  # in which the steps and their price are made to fit each other
_HEAD = 24  # bits: what a vector's head takes


def fit_mask_model(mask: MaskPositions, shape: tuple[int, int], base: BaseBits | None) -> MaskModel:
    """A model of a mask, of so many rows and columns, with weights of both kinds.

    Each part is taken if it saves more bits than it takes: magnitudes of the base, then rows, then columns.
    """
    fit = _Fit(mask, shape)
    if mask.weights >= _SMALLEST and mask.positions.size >= _FEWEST:
        if base is not None:
            _fit_magnitudes(fit, base)
        _fit_lines(fit, base)
    return fit.model


@final
class _Fit:
    def __init__(self, mask: MaskPositions, shape: tuple[int, int]) -> None:
        self.mask = mask
        self.shape = shape
        self.share = mask.zeros / mask.weights
        self.model = MaskModel(offset=_offset(_logit(self.share) / _STEP))

    def dropped(self, groups: npt.NDArray[Any], weights: Counts) -> Floats:
        """How many weights of each group are dropped, of so many, by the groups of those that the mask names."""
        named = np.bincount(groups, minlength=weights.size)
        return (named if self.mask.dropped else weights - named).astype(np.float64)

    def take(self, steps: Floats, expected: Floats, weights: Counts, **parts: Any) -> None:
        """Take a part into the model, and move the offset so that it expects as many zeros as there are."""
        odds = np.exp(_logit(expected / np.maximum(weights, 1)) + steps * _STEP)
        now = float(weights @ (odds / (1 + odds))) / self.mask.weights
        shift = (_logit(self.share) - _logit(now)) / _STEP
        self.model = replace(self.model, offset=_offset(self.model.offset + shift), **parts)


def _fit_magnitudes(fit: _Fit, base: BaseBits) -> None:
    """Ranges of |w| that are denser than the rest, or less dense; comes first, while all weights have one chance."""
    leading, most = base.leading(), base.sign
    weights = np.bincount(leading, minlength=most)
    zeros = fit.dropped(leading[fit.mask.positions], weights)
    median = int(np.searchsorted(np.cumsum(weights), leading.size / 2))
    first = max(0, median - (MAGNITUDES - _ABOVE_MEDIAN))
    ranges = np.clip(np.arange(most) - first, 0, MAGNITUDES - 1)
    held, lost = (np.bincount(ranges, counts, MAGNITUDES).astype(np.float64) for counts in (weights, zeros))
    expected: Floats = held * fit.share
    found = _logit((lost + expected / (expected + 1)) / (held + 1)) - _logit((expected + 0.5) / (held + 1))
    steps = np.where(held > 0, np.clip(np.round(found / _STEP), -MAX_STEP, MAX_STEP), 0.0)
    for number in range(1, MAGNITUDES):  # an empty range costs nothing if it is like the one before
        if not held[number]:
            steps[number] = steps[number - 1]
    if _saved(lost, expected, held, steps[:, None]).sum() > _price(np.diff(steps, prepend=0)):
        fit.take(steps, expected, held, magnitudes=steps.astype(np.int16), first_magnitude=first)


def _fit_lines(fit: _Fit, base: BaseBits | None) -> None:
    from supermask.deltas.coding import loops

    for along, name in enumerate(("rows", "columns")):
        lines, length = fit.shape[along], fit.shape[1 - along]
        if lines == 1 or length < _NARROWEST:
            continue
        classes, counts = sort_weights(fit.model, fit.shape, base)
        chances = fit.dropped(classes[fit.mask.positions], counts) / np.maximum(counts, 1)
        sums = np.zeros(fit.shape[0]), np.zeros(fit.shape[1])
        loops.sum_lines(np.ascontiguousarray(classes), chances, *sums)
        weights = np.full(lines, length)
        zeros = fit.dropped(np.divmod(fit.mask.positions, fit.shape[1])[along], weights)
        steps = _best_steps(zeros, sums[along], weights)
        if steps.any():
            fit.take(steps, sums[along], weights, **{name: steps.astype(np.int16)})


def _saved(zeros: Floats, expected: Floats, weights: Counts, steps: Floats) -> Floats:
    """The bits that steps, (groups, choices), save, by the groups' zeros and those expected so far."""
    shift = steps * _STEP
    chance = np.clip(expected / np.maximum(weights, 1), 1e-9, 1 - 1e-6)[:, None]
    nats: Floats = zeros[:, None] * shift - weights[:, None] * np.log1p(chance * np.expm1(shift))
    return nats / math.log(2)


def _best_steps(zeros: Floats, expected: Floats, weights: Counts) -> Floats:
    """The step for each line that saves most bits, its own description taken off; all 0 if none pays."""
    choices = np.arange(-_REACH, _REACH + 1.0)
    sizes, saved = np.abs(choices), _saved(zeros, expected, weights, choices[None])
    best, steps, filled, growth = 0.0, np.zeros(zeros.size), 0.5, 0.5
    for _ in range(_TURNS):
        # What a step costs if so many are not 0, and so many of these grow by 1 each time.
        price = 1 - math.log2(filled * (1 - growth)) - (sizes - 1) * math.log2(growth)
        price[_REACH] = -math.log2(1 - filled)
        chosen = (saved - price).argmax(1)
        found = choices[chosen]
        gain = float(np.take_along_axis(saved, chosen[:, None], 1).sum()) - _price(found)
        if gain > best:
            best, steps = gain, found
        some, total = np.count_nonzero(found), float(np.abs(found).sum())
        filled = min(0.9, (some + 0.5) / (zeros.size + 1))
        growth = min(0.9, (total - some + 0.5) / (total + 1))
    return steps


def _price(steps: Floats) -> float:
    """What the description of a vector takes, in bits."""
    some, total = int(np.count_nonzero(steps)), float(np.abs(steps).sum())
    return _HEAD + some + _entropy(some, steps.size - some) + _entropy(some, total - some)


def _entropy(ones: float, others: float) -> float:
    """Bits of so many geometric gaps."""
    return math.fsum(count * math.log2((ones + others) / count) for count in (ones, others) if count)


def _logit(share: Any) -> Any:
    share = np.clip(share, 1e-9, 1 - 1e-9)
    return np.log(share / (1 - share))


def _offset(half_octaves: float) -> int:
    return max(OFFSETS[0], min(OFFSETS[-1], round(half_octaves)))
