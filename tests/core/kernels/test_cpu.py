import numpy as np
import pytest
import torch

from reference_bits import reference_bits16
from supermask.core.counter_random import key_words
from supermask.core.kernels import cpu, cpu_draw, reference
from supermask.errors import ConfigurationError

KEY = key_words(9, "long")
LEVELS = reference.logit_levels(torch.device("cpu"))


@pytest.mark.parametrize("begin", [0, (1 << 31) - 128, 1 << 31, (1 << 32) - 128, 1 << 32, (7 << 32) + 256])
def test_indices_of_any_size(begin: int) -> None:
    # A block of a longer tensor than there is memory for: its address is that of the tensor's start.
    random = np.random.default_rng(0)
    own = LEVELS.numpy()[[reference_bits16(begin + index, KEY) for index in range(128)]]
    for logits, expected in ((own, 0), (np.nextafter(own, np.float32(np.inf)), 0xFFFFFFFF)):
        keep = random.integers(0, 99, 128).astype(np.uint32)
        cpu_draw.keep_block(cpu_draw.DRAWN, logits.ctypes.data - 4 * begin, begin, 128, *KEY, LEVELS.data_ptr(), keep)
        assert keep.tolist() == [expected] * 128


def test_blocks_are_drawn_without_the_table_where_it_is_not_needed() -> None:
    # With a table of which every level drops everything, only blocks with a near decision go wrong.
    table = np.full(65536, np.inf, dtype=np.float32)
    logits = 4 * np.random.default_rng(1).standard_normal(128 * 2000, dtype=np.float32)
    keep = np.zeros(logits.size, dtype=np.uint32)
    for begin in range(0, logits.size, 128):
        cpu_draw.keep_block(
            cpu_draw.DRAWN, logits.ctypes.data, begin, 128, *KEY, table.ctypes.data, keep[begin : begin + 128]
        )
    right = keep.astype(bool) == reference.draw_keep_mask(torch.from_numpy(logits), KEY).numpy()
    redone = ~right.reshape(-1, 128).all(axis=1)
    assert not keep.reshape(-1, 128)[redone].any()
    assert 0 < redone.sum() < 20  # of 2000; about 1e-5 · 128 · 2 · p(1 - p) of them


def test_tensors_elsewhere_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="work on CPU tensors, received one on meta"):
        cpu.draw_keep_mask(torch.zeros(3, device="meta"), KEY)


def test_the_default_device_makes_no_difference() -> None:
    weight, logits = torch.ones(300), torch.zeros(300)
    expected = reference.draw_masked_weight(weight, logits, KEY, dtype=torch.float32)
    with torch.device("meta"):
        assert torch.equal(cpu.draw_masked_weight(weight, logits, KEY, dtype=torch.float32), expected)
        assert torch.equal(cpu.draw_keep_mask(logits, KEY), expected.bool())
        assert torch.equal(cpu.mask_logit_gradient(weight, weight, logits, through=False), weight)


def test_flushing_subnormal_numbers_makes_no_difference_to_masked_weights() -> None:
    weight = torch.arange(1, 2000).to(torch.int16).view(torch.float16)  # subnormal ones first
    logits = torch.full(weight.shape, 20.0)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot")
    try:
        masked = cpu.draw_masked_weight(weight, logits, KEY, dtype=torch.float32)
        back = cpu.draw_masked_weight(masked, logits, KEY, dtype=torch.float16)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(masked, weight.float()) and torch.equal(back, weight)
