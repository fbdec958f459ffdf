from __future__ import annotations

import math
import random
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from deltas.coding.mask_cases import any_base, any_case
from supermask.deltas import keep_mask
from supermask.deltas.codec import encode_keep_mask
from supermask.deltas.coding import codec, decode_mask, encode_mask, kernels, payload_needs_base
from supermask.deltas.coding.model import MaskModel, write_model
from supermask.deltas.coding.symbols import SymbolWriter
from supermask.deltas.keep_mask import MaskPositions
from supermask.errors import ConfigurationError, DeltaFormatError, DeltaStateError

SHAPE = (96, 160)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def weights(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 20


def entropy_nbytes(keep: Tensor) -> float:
    share = float(keep.double().mean())
    return sum(-part * math.log2(part) for part in (share, 1 - share) if part) * keep.numel() / 8


def block(keep: Tensor) -> Tensor:
    keep[20:40, 30:90] = False
    return keep


def one_row(keep: Tensor) -> Tensor:
    keep[7] = False
    return keep


def one_column(keep: Tensor) -> Tensor:
    keep[:, 7] = False
    return keep


def one_weight(keep: Tensor) -> Tensor:
    keep[7, 7] = False
    return keep


ARRANGEMENTS: dict[str, Callable[[], Tensor]] = {
    "all zeros": lambda: torch.zeros(SHAPE, dtype=torch.bool),
    "all ones": lambda: torch.ones(SHAPE, dtype=torch.bool),
    "one weight": lambda: one_weight(torch.ones(SHAPE, dtype=torch.bool)),
    "all but one": lambda: ~one_weight(torch.ones(SHAPE, dtype=torch.bool)),
    "one row": lambda: one_row(torch.ones(SHAPE, dtype=torch.bool)),
    "one column": lambda: one_column(torch.ones(SHAPE, dtype=torch.bool)),
    "all but a column": lambda: ~one_column(torch.ones(SHAPE, dtype=torch.bool)),
    "alternating": lambda: torch.arange(math.prod(SHAPE)).reshape(SHAPE) % 2 == 0,
    "every third": lambda: torch.arange(math.prod(SHAPE)).reshape(SHAPE) % 3 != 0,
    "checkerboard": lambda: (torch.arange(SHAPE[0])[:, None] + torch.arange(SHAPE[1])) % 2 == 0,
    "block": lambda: block(torch.ones(SHAPE, dtype=torch.bool)),
    "half and half": lambda: torch.arange(math.prod(SHAPE)).reshape(SHAPE) < math.prod(SHAPE) // 2,
    "signs": lambda: weights(*SHAPE) > 0,
    "small weights": lambda: weights(*SHAPE).abs() > 0.01,
    "large weights": lambda: weights(*SHAPE).abs() < 0.1,
    **{
        f"random {sparsity}": lambda sparsity=sparsity: noise(*SHAPE) >= sparsity  # type: ignore[misc]
        for sparsity in (1e-4, 1e-3, 0.01, 0.13, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999)
    },
}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_arrangement_comes_back_from_no_more_than_its_entropy(arrangement: str) -> None:
    keep, base = ARRANGEMENTS[arrangement](), weights(*SHAPE)
    mask = MaskPositions.of(keep)
    plain, free, based = encode_keep_mask(keep), encode_mask(mask), encode_mask(mask, base)
    assert len(based) <= len(free) <= len(plain) + 1
    assert len(free) <= 1.01 * entropy_nbytes(keep) + 16
    for payload in (free, based):
        back = decode_mask(payload, SHAPE, mask.zeros, base if payload_needs_base(payload) else None)
        assert back.dropped == mask.dropped
        assert back.shape == SHAPE
        assert np.array_equal(back.positions, mask.positions)


@pytest.mark.parametrize("arrangement", ["one row", "one column", "block", "half and half"])
def test_dense_rows_and_columns_are_found_without_the_base(arrangement: str) -> None:
    keep = ARRANGEMENTS[arrangement]()
    assert len(encode_mask(MaskPositions.of(keep))) < 0.8 * entropy_nbytes(keep)


def test_what_the_base_tells_is_not_paid_for() -> None:
    base = weights(*SHAPE)
    for keep in (base > 0.02, base.abs() > 0.01, (base.abs() > 0.01) | (noise(*SHAPE) > 0.3)):
        mask = MaskPositions.of(keep)
        payload = encode_mask(mask, base)
        assert payload_needs_base(payload)
        assert len(payload) < 0.8 * len(encode_mask(mask))


def pulled(base: Tensor) -> Tensor:
    """A mask of weights whose sign rows and columns disagree with."""
    rows, columns = base.shape
    pull = torch.outer(noise(rows, seed=2) - 0.5, noise(columns, seed=3) - 0.5).sign() * base.sign()
    return noise(rows, columns) > torch.where(pull > 0, 0.1, 0.01)


def test_signs_that_rows_and_columns_decide_are_found() -> None:
    base = weights(256, 384)
    keep = pulled(base)
    payload = encode_mask(MaskPositions.of(keep), base)
    assert len(payload) < 0.95 * min(len(encode_mask(MaskPositions.of(keep))), entropy_nbytes(keep))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype_of_the_base_down_to_its_odd_values(dtype: torch.dtype) -> None:
    base = weights(*SHAPE).to(dtype)
    odd = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, torch.finfo(dtype).smallest_normal / 4])
    base[::7, ::5] = odd.to(dtype)[torch.arange(base[::7, ::5].numel()) % odd.numel()].reshape(base[::7, ::5].shape)
    keep = (base.float().abs() > 0.01) | (noise(*SHAPE) < 0.1)
    mask = MaskPositions.of(keep)
    payload = encode_mask(mask, base)
    assert payload_needs_base(payload)
    assert torch.equal(decode_mask(payload, SHAPE, mask.zeros, base).keep, keep)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_a_base_without_magnitudes_that_a_model_can_go_by_is_not_looked_at(dtype: torch.dtype) -> None:
    mask = MaskPositions.of(weights(*SHAPE).abs() > 0.01)
    base = torch.zeros(SHAPE).to(dtype)
    assert encode_mask(mask, base) == encode_mask(mask)
    assert np.array_equal(decode_mask(encode_mask(mask), SHAPE, mask.zeros, base).positions, mask.positions)
    with pytest.raises(DeltaFormatError, match="floating-point"):
        decode_mask(encode_mask(mask, weights(*SHAPE)), SHAPE, mask.zeros, base)


def test_strides_of_the_base_and_whether_it_learns_make_no_difference() -> None:
    base = weights(160, 96)
    mask = MaskPositions.of(base.T.abs() > 0.01)
    payload = encode_mask(mask, base.T)
    assert payload == encode_mask(mask, torch.nn.Parameter(base.T.contiguous()))
    assert np.array_equal(decode_mask(payload, SHAPE, mask.zeros, base.T).positions, mask.positions)


@pytest.mark.gpu
def test_a_base_on_the_gpu() -> None:
    base = weights(*SHAPE)
    mask = MaskPositions.of(base.abs() > 0.01)
    payload = encode_mask(mask, base.cuda())
    assert payload == encode_mask(mask, base)
    assert np.array_equal(decode_mask(payload, SHAPE, mask.zeros, base.cuda()).positions, mask.positions)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (), (1,), (1, 1), (2, 0, 3)])
@pytest.mark.parametrize("kept", [True, False])
def test_masks_of_nothing_or_of_one_kind(shape: tuple[int, ...], kept: bool) -> None:
    mask = MaskPositions.of(torch.full(shape, kept))
    payload = encode_mask(mask, torch.zeros(shape))
    assert payload == b"\0"
    back = decode_mask(payload, shape, mask.zeros, torch.zeros(shape))
    assert back.zeros == mask.zeros
    assert back.shape == shape


@pytest.mark.parametrize("shape", [(0,), (0, 1 << 34), (1 << 34, 0), (0, 7)])
@pytest.mark.parametrize("form", [1, 2])
def test_a_model_of_nothing_is_refused_before_any_memory_is_taken(shape: tuple[int, ...], form: int) -> None:
    # A column for each of 2^34 columns would take 32 GB.
    with pytest.raises(DeltaFormatError, match="one kind"):
        decode_mask(bytes([form, 2, 64, 0]), shape, 0, torch.zeros(shape, dtype=torch.float32))


@pytest.mark.parametrize("payload", [b"", b"\3", b"\xff" * 9])
def test_an_unknown_form_is_refused(payload: bytes) -> None:
    with pytest.raises(DeltaFormatError, match="form"):
        payload_needs_base(payload)
    with pytest.raises(DeltaFormatError, match="form"):
        decode_mask(payload, (4, 4), 3)


@pytest.mark.parametrize(("shape", "zeros"), [((2, 2), -1), ((2, 2), 5), ((-1, 4), 0), ((1 << 20, 1 << 20), 0)])
def test_a_mask_that_there_is_not(shape: tuple[int, ...], zeros: int) -> None:
    with pytest.raises(DeltaFormatError, match="there is no keep mask"):
        decode_mask(b"\0", shape, zeros)


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
    near = base.clone()
    near[0, 0] = -near[0, 0]  # of the same class: nothing can notice, but the fingerprint
    assert decode_mask(payload, SHAPE, mask.zeros, near).zeros == mask.zeros


def test_equal_masks_give_equal_payloads_whatever_the_threads_and_the_random_numbers() -> None:
    base = weights(256, 384)
    mask = MaskPositions.of(pulled(base))
    payload, threads = encode_mask(mask, base), torch.get_num_threads()
    assert payload_needs_base(payload)
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            torch.manual_seed(count)
            before = torch.get_rng_state()
            assert encode_mask(MaskPositions.of(mask.keep), base.clone()) == payload
            assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("setting", ["dtype", "device", "inference mode"])
def test_what_torch_is_set_to_makes_no_difference(setting: str) -> None:
    base = weights(256, 384)
    mask = MaskPositions.of(pulled(base))
    payload = encode_mask(mask, base)
    if setting == "dtype":
        torch.set_default_dtype(torch.bfloat16)
    elif setting == "device":
        torch.set_default_device("meta")
    try:
        with torch.inference_mode(setting == "inference mode"):
            assert encode_mask(mask, base) == payload
            back = decode_mask(payload, mask.shape, mask.zeros, base)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert np.array_equal(back.positions, mask.positions)


def test_sums_at_the_ends_of_what_a_model_can_say() -> None:
    # 31 + 31 + 31 + 3 · 31 · 31 and 63, and the same below: beyond all classes, but not beyond 16 bits.
    ends = np.array([31, -31] * 4, dtype=np.int16)
    model = MaskModel(
        offset=63,
        rows=ends,
        columns=np.full(8, 31, np.int16),
        magnitudes=np.full(64, 31, dtype=np.int16),
        terms=((ends, ends),) * 3,
    )
    base = weights(8, 8)
    keep = noise(8, 8) > 0.4
    payload = codec._encode_modelled(~keep.numpy().reshape(-1), (8, 8), model, codec.base_bits(base))
    assert torch.equal(decode_mask(payload, (8, 8), int((~keep).sum()), base).keep, keep)


def test_magnitudes_may_fall_from_one_end_to_the_other() -> None:
    # All small weights are dropped and no large one is: a difference of 62 between ranges side by side.
    steps = np.where(np.arange(64) < 40, 31, -31).astype(np.int16)
    writer = SymbolWriter()
    head = write_model(MaskModel(magnitudes=steps, first_magnitude=900), writer)
    read, _ = codec.read_model(head + writer.finish(), 8, 8)
    assert read.magnitudes is not None
    assert np.array_equal(read.magnitudes, steps)


def test_positions_of_a_tensor_of_two_billion_weights_are_counted_in_64_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("take_runs", "sort_weights", "point_at"):
        monkeypatch.setattr(kernels, name, getattr(kernels, f"_{name}"))
    for module in (keep_mask, codec):
        monkeypatch.setattr(module, "position_dtype", lambda weights: np.int64)
    for seed in range(10):
        case = any_case(seed)
        mask = MaskPositions.of(case.keep_mask)
        bits = codec.base_bits(case.base_tensor)
        modelled = codec._encode_modelled(
            ~case.keep_mask.numpy().reshape(-1), codec.as_matrix(case.shape), case.mask_model, bits
        )
        for payload in (b"\0" + encode_keep_mask(case.keep_mask), modelled):
            back = decode_mask(payload, case.shape, case.zeros, case.base_tensor)
            assert back.positions.dtype == np.int64
            assert np.array_equal(back.positions, mask.positions)


@pytest.mark.parametrize("folded", [(1, 4), (4, 1), (2, 4), (2, 0)])
def test_a_class_that_codes_less_than_none_of_its_weights(folded: tuple[int, int]) -> None:
    # Two classes of two weights, of which -1 and 2 are coded; or 2 and -1; or 1 and 2; and at last 1 and 0, as it is.
    writer = SymbolWriter()
    head = write_model(MaskModel(offset=-3, columns=np.array([0, 2], dtype=np.int16)), writer)
    for number in folded:
        writer.run([number], rate=0)
    writer.run([1], rate=0)
    payload = b"\1" + head + writer.finish()
    if folded == (2, 0):
        assert decode_mask(payload, (2, 2), 1).positions.tolist() == [2]
        return
    with pytest.raises(DeltaFormatError, match="does not code 1 zeros" if folded == (2, 4) else "less than none"):
        decode_mask(payload, (2, 2), 1)


def hostile_payloads() -> dict[str, bytes]:
    """Payloads that promise as much as the format lets them."""
    vectors = (0xFF, 0xFF, 0x3F)  # 2^20 - 1 entries, the first varint that is more than there are
    return {
        "no words": bytes([1, 0, 64]),
        "all vectors, no words": bytes([2, 0x37, 64, 0, 0, *[0] * 9]),
        "full vectors, no words": bytes([2, 0x33, 64, *[0x80, 0x08, 0] * 8]),
        "too full vectors": bytes([2, 0x33, 64, *vectors * 8]),
        "an endless varint": bytes([1, 1, 64, *[0xFF] * 40]),
        "full vectors, many words": bytes([2, 0x33, 64, *[0x80, 0x08, 160] * 8]) + random.Random(0).randbytes(4000),
        "escapes alone": bytes([0]) + b"\0" * 4 + b"\xff" * 4000,
        "escapes within classes": bytes([1, 0, 1]) + b"\xff" * 4000,
        "one class": bytes([1, 0, 127]) + b"\xff" * 4000,
        "many words": bytes([1, 0, 60]) + random.Random(1).randbytes(1 << 20),
    }


@pytest.mark.parametrize("name", hostile_payloads())
@pytest.mark.parametrize("zeros", [1, 1000, 1 << 19, (1 << 20) - 1])
def test_a_hostile_payload_takes_neither_time_nor_memory(name: str, zeros: int) -> None:
    payload, shape = hostile_payloads()[name], (1024, 1024)
    base = weights(*shape)
    decode_mask(b"\0" + encode_keep_mask(base > 0), shape, int((base <= 0).sum()))  # compiled from here on
    tracemalloc.start()
    started = time.process_time()
    try:
        back = decode_mask(payload, shape, zeros, base)
        assert back.zeros == zeros
    except DeltaFormatError:
        pass
    finally:
        spent, (_, peak) = time.process_time() - started, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert spent < 1
    assert peak < 16 * base.numel() + 250 * sum(shape) + 3 * len(payload) + 500_000


def test_real_masks_take_little_memory_to_decode() -> None:
    base = weights(1024, 1024)
    mask = MaskPositions.of((base.abs() > 0.001) | (noise(1024, 1024) < 0.5))
    payload = encode_mask(mask, base)
    decode_mask(payload, mask.shape, mask.zeros, base)
    tracemalloc.start()
    decode_mask(payload, mask.shape, mask.zeros, base)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert payload_needs_base(payload)
    assert peak < base.numel() + 13 * mask.zeros + 500_000
