"""What of the Triton kernels `test_reference.py` cannot ask: on a GPU, or in Triton's interpreter.

Triton reads TRITON_INTERPRET when it is imported, so `test_triton_launch.py` runs these files in a process of its own.
"""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reference_bits import reference_bits16
from supermask.core.counter_random import key_words
from supermask.core.kernels import reference
from supermask.core.kernels.adam8 import EightBitMoments
from supermask.core.kernels.agreement import disagreement
from supermask.core.kernels.arguments import AdamStep

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
KEY = key_words(7, 11, "encoder.weight")
GIB = 1 << 30

pytestmark = [] if INTERPRETED else [pytest.mark.gpu]
needs_a_gpu = pytest.mark.skipif(INTERPRETED, reason="the interpreter has no device")
pytest.importorskip("triton")


@pytest.fixture
def kernels() -> Any:
    from supermask.core.kernels import triton_kernels

    return triton_kernels


def uniform(count: int, limit: float) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(-limit, limit, count)).float().to(DEVICE)


def forms_of(key: tuple[int, int]) -> list[Any]:
    """The two words of a key as everything that a kernel takes for them."""
    words = torch.tensor(key, device=DEVICE)
    strided = torch.tensor([key[0], 99, key[1], 99], device=DEVICE)[::2]
    return [key, words, words.to(torch.int32), strided, words.cpu()]


@pytest.mark.parametrize("count", [1, 1023, 1024, 2049])
def test_the_same_mask_for_every_form_of_key(kernels: Any, count: int) -> None:
    logits = uniform(count, 9.0)
    expected = reference.draw_keep_mask(logits, KEY)
    for key in forms_of(KEY):
        assert torch.equal(kernels.draw_keep_mask(logits, key), expected)


def test_the_same_step_for_every_form_of_key_and_scale(kernels: Any) -> None:
    scales = (0.25, torch.tensor(0.25), torch.tensor([0.25], device=DEVICE, dtype=torch.bfloat16))
    outcomes = []
    for key, scale in [*((key, 0.25) for key in forms_of(KEY)), *((KEY, scale) for scale in scales)]:
        logits, moments = uniform(300, 6.0), EightBitMoments.zeros(300, DEVICE)
        adam = AdamStep(learning_rate=0.2, beta1=0.9, beta2=0.999, eps=1e-8, step=1, gradient_scale=scale)
        kernels.adam_step_8bit_(logits, uniform(300, 1.0), moments, adam, key=key)
        outcomes.append((logits, *moments))
    assert all(all(map(torch.equal, outcome, outcomes[0])) for outcome in outcomes)


def test_the_table_is_read_for_few_weights(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a table, only the lanes that needed it are drawn wrong.
    count = 1 << 15
    logits = uniform(count, 8.0)
    expected = reference.draw_keep_mask(logits, KEY)
    monkeypatch.setattr(kernels, "logit_levels", lambda device: torch.full((65536,), math.inf, device=device))
    monkeypatch.setattr(kernels, "BLOCK", 4096)
    dropped = kernels.draw_keep_mask(logits, KEY)
    monkeypatch.setattr(kernels, "logit_levels", lambda device: torch.full((65536,), -math.inf, device=device))
    kept = kernels.draw_keep_mask(logits, KEY)
    assert not (dropped & ~expected).any() and not (expected & ~kept).any()
    assert (kept ^ dropped).sum() < count / 1000


@pytest.mark.parametrize("start", [0, 3 << 10, (1 << 31) - 1024, 1 << 31, (1 << 32) - 1024, 1 << 32, (5 << 32) + 2048])
def test_indices_of_any_size(kernels: Any, start: int) -> None:
    from supermask.core.kernels import triton_launch

    globals().update(tl=triton_launch.tl, drawn=kernels._drawn)
    logits = torch.zeros(1024, device=DEVICE)
    keep_mask = torch.empty(1024, dtype=torch.int32, device=DEVICE)
    levels = reference.logit_levels(logits.device)
    triton_launch.jit(draw_far_in)[(1,)](keep_mask, logits, levels, start >> 10, *KEY, 1024)
    expected = [reference_bits16(start + lane, KEY) < 32768 for lane in range(1024)]
    assert keep_mask.bool().tolist() == expected


tl: Any = None  # triton.language, once it may be imported
drawn: Any = None


def draw_far_in(keep_mask, mask_logits, levels, first_block, first_word, second_word, block: tl.constexpr):  # type: ignore
    """A kernel for weights far into a tensor that is too large to make."""
    lanes = tl.arange(0, block)
    logits = tl.load(mask_logits + lanes)
    start = first_block.to(tl.int64) * block
    keep = drawn(logits, start, lanes, levels, levels, first_word, second_word, False)
    tl.store(keep_mask + lanes, keep.to(tl.int32))


# On a GPU alone.


@needs_a_gpu
def test_nothing_waits_for_the_device(kernels: Any) -> None:
    logits, weight = uniform(1 << 16, 8.0), uniform(1 << 16, 2.0).bfloat16()
    key, scale = torch.tensor(KEY, device=DEVICE), torch.tensor(0.5, device=DEVICE)
    state, moments = logits.clone(), EightBitMoments.zeros(1 << 16, DEVICE)
    adam = AdamStep(learning_rate=0.2, beta1=0.9, beta2=0.999, eps=1e-8, step=1, gradient_scale=scale)

    def step() -> None:
        masked = kernels.draw_masked_weight(weight, logits, key, dtype=torch.bfloat16)
        kernels.threshold_masked_weight(weight, logits, dtype=torch.bfloat16)
        gradient = kernels.mask_logit_gradient(masked, weight, logits, through=True)
        kernels.adam_step_8bit_(state, gradient, moments, adam, key=key)

    step()  # compiles, and makes the table
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_a_gpu
def test_a_captured_graph_draws_anew_when_its_key_changes(kernels: Any) -> None:
    logits, weight = uniform(1 << 16, 8.0), uniform(1 << 16, 2.0).bfloat16()
    key = torch.tensor(KEY, device=DEVICE)
    kernels.draw_masked_weight(weight, logits, key, dtype=torch.bfloat16)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        masked = kernels.draw_masked_weight(weight, logits, key, dtype=torch.bfloat16)
    for words in (KEY, key_words("another")):
        key.copy_(torch.tensor(words))
        graph.replay()
        assert torch.equal(masked, reference.draw_masked_weight(weight, logits, words, dtype=torch.bfloat16))


@needs_a_gpu
def test_the_self_check_agrees() -> None:
    assert disagreement("triton", DEVICE) == ""


@needs_a_gpu
def test_a_device_that_is_not_the_current_one(kernels: Any) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    logits = uniform(5000, 9.0).to("cuda:1")
    assert torch.equal(kernels.draw_keep_mask(logits, KEY), reference.draw_keep_mask(logits, KEY))
    assert torch.cuda.current_device() == 0


@needs_a_gpu
def test_more_weights_than_an_int32_counts(kernels: Any) -> None:
    if torch.cuda.mem_get_info()[0] < 24 * GIB:
        pytest.skip("needs 24 GiB of free GPU memory")
    logits = torch.zeros((1 << 31) + 4096, device=DEVICE)
    keep_mask = kernels.draw_keep_mask(logits, KEY)
    expected = [reference_bits16(index, KEY) < 32768 for index in range((1 << 31) - 2048, (1 << 31) + 4096)]
    assert keep_mask[-6144:].tolist() == expected
