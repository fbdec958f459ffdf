import contextlib
import math
import random
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deltas.coding import reference_masks
from deltas.coding.mask_cases import SHAPES, Case, any_base, any_case
from supermask.deltas import keep_mask
from supermask.deltas.coding import decode_mask, encode_mask, is_storable_shape, loops, mask_needs_base, masks
from supermask.deltas.coding.model import MaskModel, base_bits, write_model
from supermask.deltas.coding.symbols import SymbolWriter
from supermask.deltas.keep_mask import MaskPositions
from supermask.errors import ConfigurationError, DeltaFormatError, DeltaStateError

SHAPE = (96, 160)
SEEDS = st.integers(min_value=0, max_value=2**32)
LOOPS = ("take_runs", "sort_weights", "point_at", "gaps_within")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def weights(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 20


def entropy_nbytes(keep: Tensor) -> float:
    share = float(keep.double().mean())
    return sum(-part * math.log2(part) for part in (share, 1 - share) if part) * keep.numel() / 8


def ones_but(*where: slice | int) -> Tensor:
    keep = torch.ones(SHAPE, dtype=torch.bool)
    keep[where] = False
    return keep


ARRANGEMENTS: dict[str, Callable[[], Tensor]] = {
    "all zeros": lambda: torch.zeros(SHAPE, dtype=torch.bool),
    "all ones": lambda: torch.ones(SHAPE, dtype=torch.bool),
    "one weight": lambda: ones_but(7, 7),
    "all but one": lambda: ~ones_but(7, 7),
    "the last": lambda: ones_but(-1, -1),
    "one row": lambda: ones_but(7),
    "one column": lambda: ones_but(slice(None), 7),
    "all but a column": lambda: ~ones_but(slice(None), 7),
    "alternating": lambda: torch.arange(math.prod(SHAPE)).reshape(SHAPE) % 2 == 0,
    "every third": lambda: torch.arange(math.prod(SHAPE)).reshape(SHAPE) % 3 != 0,
    "checkerboard": lambda: (torch.arange(SHAPE[0])[:, None] + torch.arange(SHAPE[1])) % 2 == 0,
    "block": lambda: ones_but(slice(20, 40), slice(30, 90)),
    "half and half": lambda: torch.arange(math.prod(SHAPE)).reshape(SHAPE) < math.prod(SHAPE) // 2,
    "signs": lambda: weights(*SHAPE) > 0,
    "small weights": lambda: weights(*SHAPE).abs() > 0.01,
    "large weights": lambda: weights(*SHAPE).abs() < 0.1,
    **{
        f"random {sparsity}": lambda sparsity=sparsity: noise(*SHAPE) >= sparsity  # type: ignore[misc]
        for sparsity in (1e-4, 1e-3, 0.01, 0.13, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999)
    },
}


def same(found: MaskPositions, mask: MaskPositions) -> bool:
    return (found.dropped, found.shape) == (mask.dropped, mask.shape) and np.array_equal(
        found.positions, mask.positions
    )


# Sizes and round trips.


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_arrangement_comes_back_from_no_more_than_its_entropy(arrangement: str) -> None:
    keep, base = ARRANGEMENTS[arrangement](), weights(*SHAPE)
    mask = MaskPositions.of(keep)
    free, based = encode_mask(mask), encode_mask(mask, base)
    assert not mask_needs_base(free)
    assert len(based) <= len(free)
    structured = arrangement in ("one row", "one column", "block", "half and half")
    assert len(free) <= (0.8 if structured else 1.01) * entropy_nbytes(keep) + (0 if structured else 16)
    for payload in (free, based):
        assert same(decode_mask(payload, SHAPE, mask.zeros, base if mask_needs_base(payload) else None), mask)


@pytest.mark.parametrize("sparsity", [0.001, 0.01, 0.4])
def test_zeros_strewn_at_random_cost_their_entropy(sparsity: float) -> None:
    keep = noise(1024, 1024) >= sparsity
    assert len(encode_mask(MaskPositions.of(keep), weights(1024, 1024))) <= 1.0015 * entropy_nbytes(keep) + 16


def test_what_the_base_tells_is_not_paid_for() -> None:
    base = weights(*SHAPE)
    for keep in (base.abs() > 0.01, (base.abs() > 0.01) | (noise(*SHAPE) > 0.3)):
        mask = MaskPositions.of(keep)
        payload = encode_mask(mask, base)
        assert mask_needs_base(payload)
        assert len(payload) < 0.8 * len(encode_mask(mask))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (), (1,), (1, 1), (2, 0, 3)])
@pytest.mark.parametrize("kept", [True, False])
def test_masks_of_nothing_or_of_one_kind(shape: tuple[int, ...], kept: bool) -> None:
    mask = MaskPositions.of(torch.full(shape, kept))
    payload = encode_mask(mask, torch.zeros(shape))
    assert payload == b"\0"
    assert same(decode_mask(payload, shape, mask.zeros), mask)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if 0 not in shape])
def test_every_shape_with_every_mask_of_one_zero(shape: tuple[int, ...]) -> None:
    base = weights(*shape)
    for place in range(base.numel()):
        keep = torch.ones(base.numel(), dtype=torch.bool)
        keep[place] = False
        mask = MaskPositions.of(keep.reshape(shape))
        assert same(decode_mask(encode_mask(mask, base), shape, mask.zeros, base), mask)


# The base.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_of_the_base_down_to_its_odd_values(dtype: torch.dtype) -> None:
    base = weights(*SHAPE).to(dtype)
    odd = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, torch.finfo(dtype).smallest_normal / 4])
    base[::7, ::5] = odd.to(dtype)[torch.arange(base[::7, ::5].numel()) % odd.numel()].reshape(base[::7, ::5].shape)
    mask = MaskPositions.of((base.float().abs() > 0.01) | (noise(*SHAPE) < 0.1))
    payload = encode_mask(mask, base)
    assert mask_needs_base(payload)
    assert same(decode_mask(payload, SHAPE, mask.zeros, base), mask)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_a_base_without_magnitudes_that_a_model_can_go_by_is_not_looked_at(dtype: torch.dtype) -> None:
    mask = MaskPositions.of(weights(*SHAPE).abs() > 0.01)
    base = torch.zeros(SHAPE).to(dtype)
    assert encode_mask(mask, base) == encode_mask(mask)
    assert same(decode_mask(encode_mask(mask), SHAPE, mask.zeros, base), mask)
    with pytest.raises(DeltaFormatError, match="floating-point"):
        decode_mask(encode_mask(mask, weights(*SHAPE)), SHAPE, mask.zeros, base)


def test_strides_of_the_base_and_whether_it_learns_make_no_difference() -> None:
    base = weights(160, 96)
    mask = MaskPositions.of(base.T.abs() > 0.01)
    payload = encode_mask(mask, base.T)
    assert payload == encode_mask(mask, torch.nn.Parameter(base.T.contiguous()))
    assert same(decode_mask(payload, SHAPE, mask.zeros, base.T), mask)


@pytest.mark.gpu
def test_a_base_on_the_gpu() -> None:
    base = weights(*SHAPE)
    mask = MaskPositions.of(base.abs() > 0.01)
    payload = encode_mask(mask, base.cuda())
    assert payload == encode_mask(mask, base)
    assert same(decode_mask(payload, SHAPE, mask.zeros, base.cuda()), mask)


def test_the_base_must_be_there_and_of_the_masks_shape() -> None:
    base = weights(*SHAPE)
    mask = MaskPositions.of(base.abs() > 0.01)
    payload = encode_mask(mask, base)
    with pytest.raises(DeltaStateError, match="pass the base"):
        decode_mask(payload, SHAPE, mask.zeros)
    with pytest.raises(DeltaFormatError, match="of shape"):
        decode_mask(payload, SHAPE, mask.zeros, base.T)
    with pytest.raises(ConfigurationError, match="no base of shape"):
        encode_mask(mask, base.T)


def test_another_base_gives_an_error_or_another_mask() -> None:
    base = weights(*SHAPE)
    mask = MaskPositions.of(base.abs() > 0.01)
    payload = encode_mask(mask, base)
    refused = 0
    for seed in range(20):
        other = any_base(random.Random(seed), base.numel(), "float32")
        signed = np.array(other.bits, dtype=np.uint32).view(np.float32)
        try:
            back = decode_mask(payload, SHAPE, mask.zeros, torch.from_numpy(signed).reshape(SHAPE))
        except DeltaFormatError:
            refused += 1
        else:
            assert back.zeros == mask.zeros
    assert refused
    # Of the same class: nothing can notice, but the fingerprint.
    assert same(decode_mask(payload, SHAPE, mask.zeros, -base), mask)


# Equal masks, equal payloads.


@pytest.mark.parametrize("setting", ["threads", "random numbers", "dtype", "device", "inference mode"])
def test_what_torch_is_set_to_makes_no_difference(setting: str) -> None:
    base = weights(256, 384)
    mask = MaskPositions.of(noise(256, 384) > torch.where(base.abs() < 0.02, 0.1, 0.01))
    payload, threads, state = encode_mask(mask, base), torch.get_num_threads(), torch.get_rng_state()
    assert mask_needs_base(payload)
    try:
        if setting == "threads":
            torch.set_num_threads(3)
        elif setting == "random numbers":
            torch.manual_seed(3)
            state = torch.get_rng_state()
        elif setting == "dtype":
            torch.set_default_dtype(torch.bfloat16)
        elif setting == "device":
            torch.set_default_device("meta")
        with torch.inference_mode(setting == "inference mode"):
            assert encode_mask(MaskPositions(mask.positions.copy(), mask.dropped, mask.shape), base.clone()) == payload
            assert same(decode_mask(payload, mask.shape, mask.zeros, base), mask)
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert torch.equal(torch.get_rng_state(), state)


# Against the reference, which was written from docs/FORMAT.md alone.


def encoded(case: Case) -> bytes:
    return masks._encode(case.mask, case.mask_model, base_bits(case.base_tensor))


def outcomes(payload: bytes, case: Case, zeros: int) -> tuple[list[bool] | None, list[bool] | None]:
    """What the implementation and the reference make of a payload; None where they refuse it."""
    ours = theirs = None
    with contextlib.suppress(DeltaFormatError):
        ours = decode_mask(payload, case.shape, zeros, case.base_tensor).keep.reshape(-1).tolist()
    with contextlib.suppress(reference_masks.RefusedError):
        theirs = reference_masks.decode(payload, case.shape, zeros, case.base)
    return ours, theirs


def damaged(payload: bytes, source: random.Random) -> bytes:
    data = bytearray(payload)
    for _ in range(source.choice((1, 1, 2, 5))):
        where = min(source.choice((source.randrange(12), source.randrange(len(data) + 1))), len(data))
        what = source.randrange(5)
        if what == 0:
            data[where : where + 1] = bytes([source.choice((0, 1, 2, 4, 8, 127, 128, 160, 161, 255))])
        elif what == 1:
            del data[where : where + source.choice((1, 4))]
        elif what == 2:
            data[where:where] = source.randbytes(source.choice((1, 4)))
        elif what == 3:
            data += source.randbytes(4)
        elif where < len(data):
            data[where] ^= 1 << source.randrange(8)
    return bytes(data)


def check_against_the_reference(seed: int) -> None:
    source, case = random.Random(seed), any_case(seed)
    payload = reference_masks.encode(case.keep, case.shape, case.model, case.base)
    assert encoded(case) == payload
    assert mask_needs_base(payload) == (case.model.magnitudes is not None)
    for whole in (payload, encode_mask(case.mask, case.base_tensor)):
        assert outcomes(whole, case, case.zeros) == (case.keep, case.keep)
    ours, theirs = outcomes(damaged(payload, source), case, case.zeros + source.choice((0, 0, 0, 1, -1)))
    assert ours == theirs


@given(SEEDS)
@settings(max_examples=250)
def test_both_write_the_same_bytes_and_make_the_same_of_whole_and_damaged_ones(seed: int) -> None:
    check_against_the_reference(seed)


@pytest.mark.slow
def test_both_make_the_same_of_many_payloads() -> None:
    for seed in range(20_000):
        check_against_the_reference(seed)


@given(SEEDS)
@settings(max_examples=100)
def test_both_make_the_same_of_random_bytes(seed: int) -> None:
    source, case = random.Random(seed), any_case(seed)
    payload = bytes([source.choice((0, 1, 3, 4, 7, 8)), source.randrange(128)])
    payload += source.randbytes(source.randrange(16)) + source.randbytes(4 * source.choice((0, 1, 2, 30)))
    ours, theirs = outcomes(payload, case, case.zeros)
    assert ours == theirs


@given(SEEDS)
@settings(max_examples=40)
def test_the_loops_stay_within_their_arrays_whatever_the_payload(seed: int) -> None:
    # As plain Python they are checked; compiled they are not.
    source, case = random.Random(seed), any_case(seed)
    payload = encoded(case)
    other = damaged(payload, source)
    compiled = outcomes(other, case, case.zeros)
    with pytest.MonkeyPatch.context() as patch:
        for name in LOOPS:
            patch.setattr(loops, name, getattr(loops, f"_{name}"))
        assert encoded(case) == payload
        assert outcomes(other, case, case.zeros) == compiled


def test_sums_at_the_ends_of_what_a_model_can_say() -> None:
    # 31 + 31 + 31 and 63, and the same below: beyond all classes.
    ends = np.array([31, -31] * 4, dtype=np.int16)
    base, keep = weights(8, 8), noise(8, 8) > 0.4
    for offset in (63, -64):
        model = MaskModel(offset=offset, rows=ends, columns=ends, magnitudes=np.full(64, 31, dtype=np.int16))
        mask = MaskPositions.of(keep)
        assert same(decode_mask(masks._encode(mask, model, base_bits(base)), (8, 8), mask.zeros, base), mask)


def test_positions_of_a_tensor_of_two_billion_weights_are_counted_in_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOOPS:
        monkeypatch.setattr(loops, name, getattr(loops, f"_{name}"))
    for module in (keep_mask, masks):
        monkeypatch.setattr(module, "position_dtype", lambda weights: np.int64)
    for seed in range(10):
        case = any_case(seed)
        back = decode_mask(encoded(case), case.shape, case.zeros, case.base_tensor)
        assert back.positions.dtype == np.int64
        assert same(back, case.mask)


# What is refused.


@pytest.mark.parametrize("payload", [b"", b"\x08", b"\xff" * 9])
def test_an_unknown_form_is_refused(payload: bytes) -> None:
    with pytest.raises(DeltaFormatError, match="form"):
        mask_needs_base(payload)
    with pytest.raises(DeltaFormatError, match="form"):
        decode_mask(payload, (4, 4), 3)


@pytest.mark.parametrize("shape", [(0,), (0, 1 << 34), (1 << 34, 0), (0, 7), (3, 3)])
@pytest.mark.parametrize("form", [0, 2, 6])
def test_a_model_of_nothing_is_refused_before_any_memory_is_taken(shape: tuple[int, ...], form: int) -> None:
    # A column for each of 2^34 columns would take 32 GB.
    with pytest.raises(DeltaFormatError, match="one kind"):
        decode_mask(bytes([form, 64, 0]), shape, 0)


def test_shapes_that_cannot_be_stored() -> None:
    assert is_storable_shape((masks.MAX_WEIGHTS,)) and is_storable_shape(())
    for shape in ((masks.MAX_WEIGHTS + 1,), (3, -1), (1 << 20, 1 << 20), (0, 1 << 60)):
        assert not is_storable_shape(shape)
        with pytest.raises(DeltaFormatError, match="there is no keep mask"):
            decode_mask(b"\0", shape, 0)
    for zeros in (-1, 5):
        with pytest.raises(DeltaFormatError, match="there is no keep mask"):
            decode_mask(b"\0", (2, 2), zeros)
    with pytest.raises(ConfigurationError, match="beyond the format's limit"):
        encode_mask(MaskPositions(np.empty(0, dtype=np.int64), True, (masks.MAX_WEIGHTS + 1,)))


@pytest.mark.parametrize("folded", [(1, 4), (4, 1), (2, 4), (2, 0)])
def test_a_class_that_codes_less_than_none_of_its_weights(folded: tuple[int, int]) -> None:
    # Two classes of two weights, of which -1 and 2 are coded; or 2 and -1; or 1 and 2; and at last 1 and 0, as it is.
    writer = SymbolWriter()
    head = write_model(MaskModel(offset=-3, columns=np.array([0, 2], dtype=np.int16)), writer)
    for number in folded:
        writer.run([number], rate=0)
    writer.run([1], rate=0)
    payload = head + writer.finish()
    if folded == (2, 0):
        assert decode_mask(payload, (2, 2), 1).positions.tolist() == [2]
        return
    with pytest.raises(DeltaFormatError, match="does not code 1 zeros" if folded == (2, 4) else "less than none"):
        decode_mask(payload, (2, 2), 1)


# Payloads that promise as much as the format lets them, for a mask of 1024 rows and columns.
HOSTILE = {
    "no words": bytes([0, 64]),
    "all vectors, no words": bytes([7, 64, 0, 0, 0, 0, 0]),
    "full vectors, no words": bytes([3, 64, *[0x80, 0x08, 0] * 2]),
    "too full vectors": bytes([3, 64, *(0xFF, 0xFF, 0x3F) * 2]),
    "an endless varint": bytes([1, 64, *[0xFF] * 40]),
    "full vectors, many words": bytes([3, 64, *[0x80, 0x08, 160] * 2]) + random.Random(0).randbytes(4000),
    "escapes within classes": bytes([0, 1]) + b"\xff" * 4000,
    "one class": bytes([0, 127]) + b"\xff" * 4000,
    "many words": bytes([0, 60]) + random.Random(1).randbytes(1 << 20),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("zeros", [1, 1000, 1 << 19, (1 << 20) - 1])
def test_a_hostile_payload_takes_neither_time_nor_memory(name: str, zeros: int) -> None:
    payload, base = HOSTILE[name], weights(1024, 1024)
    small = MaskPositions.of(ones_but(7))
    decode_mask(encode_mask(small), SHAPE, small.zeros)  # compiled from here on
    tracemalloc.start()
    started = time.process_time()
    try:
        assert decode_mask(payload, (1024, 1024), zeros, base).zeros == zeros
    except DeltaFormatError:
        pass
    finally:
        spent, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert spent < 1
    assert peak < 16 * base.numel() + 250 * 2048 + 3 * len(payload) + 500_000


def test_real_masks_take_little_memory_to_decode() -> None:
    base = weights(1024, 1024)
    mask = MaskPositions.of((base.abs() > 0.001) | (noise(1024, 1024) < 0.5))
    payload = encode_mask(mask, base)
    decode_mask(payload, mask.shape, mask.zeros, base)
    tracemalloc.start()
    decode_mask(payload, mask.shape, mask.zeros, base)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mask_needs_base(payload)
    assert peak < base.numel() + 13 * mask.zeros + 500_000
