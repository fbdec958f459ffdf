"""Finding a mask's model: what describing each part saves, against what it costs to describe.

Nothing here is part of the format: a better search writes smaller files that every reader reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from supermask.deltas.coding.classes import BaseBits
from supermask.deltas.coding.model import MAGNITUDES, MAX_STEP, MAX_TERMS, OFFSETS, MaskModel

__all__ = ["fit_mask_models"]

_STEP = math.log(2) / 2  # half an octave of odds, in nats
_SMALLEST = 512  # weights: below, a model cannot pay for its head
_FEWEST = 8  # weights of the rarer kind, likewise
_ABOVE_MEDIAN = 20  # of the MAGNITUDES ranges; the others lie at the median and below
_REACH = 6  # the largest step of a fitted vector over rows or columns
_TERM_REACH = 3  # and of the two vectors of a term, whose steps multiply
_NARROWEST = 8  # weights in a row or column; a step for fewer does not pay
_ROUNDS = 2
_DIRECTIONS = 4  # that the search for a term follows at once
_TURNS = 3
_ABOVE_NOISE = 1.2  # how far the strongest direction must stand out of what chance alone gives
_BLOCK = 1 << 15  # weights: what is computed on the way stays in cache and small beside the mask
_PRICES = np.array(
    # What a step of size 0, 1, ... costs in bits, by how often it is not 0, and how often one that is grows by 1.
    [
        [-math.log2(1 - filled)]
        + [1 - math.log2(filled) - math.log2(1 - growth) - size * math.log2(growth) for size in range(_REACH)]
        for filled in (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
        for growth in (0.08, 0.25, 0.5)
    ]
)
_HEAD = 24  # bits: what a vector's head takes


def fit_mask_models(dropped: npt.NDArray[np.bool_], shape: tuple[int, int], base: BaseBits | None) -> list[MaskModel]:
    """Models that may code a mask well, to be tried.

    Each part is taken if it saves more bits than its description takes: densities of rows and columns first, and, if
    the base is at hand, densities by magnitude and terms of the signs.

    Args:
        dropped: which weights are, flat.
        shape: rows and columns.
        base: the base's values, or None.

    Returns:
        At most two models: one that does without the base, one that needs it.
    """
    zeros = int(np.count_nonzero(dropped))
    if dropped.size < _SMALLEST or min(zeros, dropped.size - zeros) < _FEWEST:
        return []
    matrix = torch.from_numpy(dropped).reshape(shape)
    fits = [_Fit(matrix)]
    _fit_densities(fits[0])
    if base is not None:
        fits.append(_Fit(matrix))
        _fit_magnitudes(fits[1], base)
        _fit_densities(fits[1])
        _fit_terms(fits[1], torch.from_numpy(base.negative()).reshape(shape))
    return [fit.centred() for fit in fits if fit.says_something]


@final
class _Fit:
    """A model in the making, and the chance that it gives each weight of being dropped.

    Args:
        dropped: boolean (rows, columns).
    """

    def __init__(self, dropped: Tensor) -> None:
        self.dropped = dropped
        self.places = dropped.nonzero(as_tuple=True)
        self.zeros = self.places[0].numel()
        self.model = MaskModel()
        share = self.zeros / dropped.numel()
        # Neither the default dtype nor the default device are to matter, here and below.
        self.chance = dropped.new_full(dropped.shape, share, dtype=torch.float32)
        self._log_odds = torch.full_like(self.chance, math.log(share / (1 - share)))

    @property
    def says_something(self) -> bool:
        """Whether any part was worth its description."""
        return self.model.rows is not None or self.model.columns is not None or self.model.needs_base

    def add(self, steps: Tensor, **parts: Any) -> None:
        """Take a part into the model, which afterwards expects about as many zeros as there are.

        Args:
            steps: what it adds to each weight, or what can be broadcast to that.
            parts: what it adds to the model.
        """
        self.model = replace(self.model, **parts)
        expected = variance = 0.0
        self._log_odds.add_(steps, alpha=_STEP)
        for block in self.blocks():
            chance = torch.sigmoid(self._log_odds[block], out=self.chance[block])
            expected += float(chance.sum())
            variance += float(torch.linalg.vector_norm(chance)) ** 2
        surplus = (self.zeros - expected) / max(expected - variance, 1e-9)
        torch.sigmoid(self._log_odds.add_(max(-2, min(2, surplus))), out=self.chance)

    def blocks(self) -> Iterator[slice]:
        """Rows, a few at a time."""
        rows, columns = self.dropped.shape
        height = max(1, _BLOCK // columns)
        return (slice(start, min(start + height, rows)) for start in range(0, rows, height))

    def centred(self) -> MaskModel:
        """The model with the offset that its log-odds have come to, the terms left out: they have both signs."""
        parts = (self.model.rows, self.model.columns)
        steps = sum(float(part.mean()) for part in parts if part is not None)
        mean = float(self._log_odds.mean(dtype=torch.float64)) / _STEP - steps
        return replace(self.model, offset=max(OFFSETS[0], min(OFFSETS[-1], round(mean))))


def _fit_densities(fit: _Fit) -> None:
    """Rows and columns that are denser than the model says, or less dense."""
    for name, along in (("rows", 0), ("columns", 1)):
        lines, length = fit.dropped.shape[along], fit.dropped.shape[1 - along]
        if lines == 1 or length < _NARROWEST:
            continue
        zeros = torch.bincount(fit.places[along], minlength=lines).double()
        expected = fit.chance.sum(1 - along, dtype=torch.float64)
        steps, saved = _best_steps([_Group(1, zeros, expected, torch.full_like(zeros, length))], _REACH)
        if saved > 0:
            fit.add(steps.unsqueeze(1 - along), **{name: _as_steps(steps)})


def _fit_magnitudes(fit: _Fit, base: BaseBits) -> None:
    """Ranges of |w| that are denser than the rest, or less dense; comes first, while all weights have one chance."""
    leading, most = base.leading(), base.sign
    weights = np.bincount(leading, minlength=most)
    zeros = np.bincount(leading[fit.dropped.numpy().reshape(-1)], minlength=most)
    median = int(np.searchsorted(np.cumsum(weights), leading.size / 2))
    first = max(0, median - (MAGNITUDES - _ABOVE_MEDIAN))
    ranges = np.clip(np.arange(most) - first, 0, MAGNITUDES - 1)
    held, lost = (np.bincount(ranges, counts, MAGNITUDES) for counts in (weights, zeros))
    expected = held * (fit.zeros / leading.size)
    found = _logit((lost + expected / (expected + 1)) / (held + 1), held) - _logit((expected + 0.5) / (held + 1), held)
    steps = np.clip(np.round(found / _STEP), -MAX_STEP, MAX_STEP)
    for number in range(1, MAGNITUDES):  # an empty range costs nothing if it is like the one before
        if not held[number]:
            steps[number] = steps[number - 1]
    if steps.any():
        every = torch.from_numpy(steps[ranges].astype(np.float32)[leading]).reshape(fit.dropped.shape)
        fit.add(every, magnitudes=steps.astype(np.int16), first_magnitude=first)


def _logit(share: npt.NDArray[Any], held: npt.NDArray[Any]) -> npt.NDArray[Any]:
    share = np.where(held > 0, share, 0.5)
    odds: npt.NDArray[Any] = np.log(share / (1 - share))
    return odds


def _fit_terms(fit: _Fit, negative: Tensor) -> None:
    """Products of a vector over rows and one over columns that say which sign is dropped."""
    if min(fit.dropped.shape) < _NARROWEST:
        return
    signs = 1 - 2 * negative.float()
    for _ in range(MAX_TERMS):
        found = _best_term(fit, negative, signs)
        if found is None:
            return
        terms = (*fit.model.terms, (_as_steps(found[0]), _as_steps(found[1])))
        fit.add(torch.outer(found[0].float(), found[1].float()).mul_(signs), terms=terms)


def _best_term(fit: _Fit, negative: Tensor, signs: Tensor) -> tuple[Tensor, Tensor] | None:
    """One more term, if it saves more than it costs: from the strongest direction, improved in turns."""
    right = _strongest_direction(fit, signs)
    if right is None:
        return None
    right = (right / right.abs().mean().clamp_min(1e-12)).round().clamp(-_TERM_REACH, _TERM_REACH)
    best: tuple[float, Tensor, Tensor] | None = None
    for _ in range(_ROUNDS):
        left, _ = _best_steps(_signed_groups(fit, negative, right, along=0), _TERM_REACH)
        if not bool(left.any()):
            break
        right, saved = _best_steps(_signed_groups(fit, negative, left, along=1), _TERM_REACH)
        if not bool(right.any()):
            break
        saved -= _price(left)
        if best is None or saved > best[0]:
            best = saved, left, right
        if saved < -_price(left) / 2:  # further rounds gain less than that
            break
    return (best[1], best[2]) if best and best[0] > 0 else None


def _strongest_direction(fit: _Fit, signs: Tensor) -> Tensor | None:
    """The leading right singular vector of what the model misses, by sign; None if chance alone explains it."""
    missed = fit.chance.neg()
    missed[fit.places] += 1
    missed /= (fit.chance.sum(1, keepdim=True) + 1e-3).sqrt()
    missed *= signs
    rows, columns = missed.shape
    # From a start of its own: equal masks are to give equal payloads, and nobody else's random numbers are to change.
    start = np.random.default_rng(0).standard_normal((columns, min(_DIRECTIONS, rows, columns)), dtype=np.float32)
    right = torch.from_numpy(start)
    for _ in range(_TURNS):
        left, _ = torch.linalg.qr(missed @ right)
        right, _ = torch.linalg.qr(missed.T @ left)
    reached = missed @ right
    _, strengths, turn = torch.linalg.svd(reached, full_matrices=False)
    noise = float(torch.linalg.vector_norm(missed)) * (rows**-0.5 + columns**-0.5)
    return right @ turn[0] if float(strengths[0]) > _ABOVE_NOISE * noise else None


@final
@dataclass(frozen=True)
class _Group:
    """Weights of each line for which one step of the line is `multiple` half octaves: their zeros, the zeros that the
    model expects, and how many they are; each of shape (lines,)."""

    multiple: int
    zeros: Tensor
    expected: Tensor
    weights: Tensor


def _signed_groups(fit: _Fit, negative: Tensor, other: Tensor, *, along: int) -> list[_Group]:
    """The groups of a term's vector over rows (along 0) or columns (along 1), given the other one."""
    sizes = [size for size in range(1, _TERM_REACH + 1) if bool((other.abs() == size).any())]
    picks = torch.stack([other == sign * size for size in sizes for sign in (1, -1)], dim=1)
    lines, kinds = fit.dropped.shape[along], picks.shape[1]
    # Weights expected to be dropped, those of them that are negative, and all that are negative.
    chosen = picks.double()
    sums = chosen.new_zeros(3, lines, kinds)
    for block in fit.blocks():
        values = chosen.new_empty(3, *negative[block].shape)
        values[0], values[2] = fit.chance[block], negative[block]
        torch.mul(values[0], values[2], out=values[1])
        if along == 0:
            sums[:, block] = values @ chosen
        else:
            sums += values.transpose(1, 2) @ chosen[block]
    expected, expected_below, weights_below = sums
    kind = torch.where(picks.any(1), picks.int().argmax(1), kinds)[fit.places[1 - along]]
    kind += fit.places[along] * (kinds + 1)
    zeros, zeros_below = (
        torch.bincount(these, minlength=lines * (kinds + 1)).double().reshape(lines, -1)[:, :kinds]
        for these in (kind, kind[negative[fit.places]])
    )
    weights = chosen.sum(0).expand(lines, -1)
    parts = [(zeros, zeros_below), (expected, expected_below), (weights, weights_below)]
    groups = []
    for index, size in enumerate(sizes):
        plus, minus = 2 * index, 2 * index + 1
        # Positive weights at a positive step and negative ones at a negative step are pulled alike.
        alike = [every[:, plus] - below[:, plus] + below[:, minus] for every, below in parts]
        unlike = [below[:, plus] + every[:, minus] - below[:, minus] for every, below in parts]
        groups += [_Group(size, *alike), _Group(-size, *unlike)]
    return groups


def _best_steps(groups: list[_Group], reach: int) -> tuple[Tensor, float]:
    """The step for each line that saves most bits, its own description taken off.

    Returns:
        The steps, and the bits saved in all; they may be negative.
    """
    sizes = np.arange(-reach, reach + 1)
    steps, prices = torch.from_numpy(sizes).double(), torch.from_numpy(_PRICES[:, np.abs(sizes)])
    saved = steps.new_zeros(groups[0].zeros.numel(), steps.numel())
    for group in groups:
        shift = steps * (group.multiple * _STEP)
        chance = (group.expected / group.weights.clamp_min(1)).clamp(1e-9, 1 - 1e-6).unsqueeze(1)
        saved += group.zeros.unsqueeze(1) * shift - group.weights.unsqueeze(1) * (chance * shift.expm1()).log1p()
    saved /= math.log(2)
    gains = torch.stack([(saved - price).amax(1).sum() for price in prices])
    best = int(gains.argmax())
    return steps[(saved - prices[best]).argmax(1)], float(gains[best]) - _HEAD


def _price(steps: Tensor) -> float:
    """What the description of a vector takes, in bits."""
    counts = np.bincount(np.abs(_as_steps(steps)), minlength=_REACH + 1)
    return float((_PRICES @ counts).min()) + _HEAD


def _as_steps(steps: Tensor) -> npt.NDArray[np.int16]:
    array: npt.NDArray[np.int16] = steps.numpy().astype(np.int16)
    return array
