"""A model sharded by FSDP2 over two processes learns what it learns whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import shard_in_two
from two_processes import QUICK, SHARDS, assert_same, in_two_processes

CASES = ("supermask", "freezing", "pruning")
SLOW = ("checkpointing", "clipping", "per-rank", "pruning-global")
# Here a sum in another order is not rounded to nearly the same: to bfloat16, or in blocks that start elsewhere.
COARSE = ("bf16-base", "8bit")
MORE = tuple(f"shard:{case}" for case in (*SLOW, *COARSE, "checkpoints"))

pytestmark = pytest.mark.skipif(not SHARDS, reason="fully_shard came with torch 2.6")


def check(case: str, results: list[dict[str, Any]]) -> None:
    one = shard_in_two.result(*shard_in_two.train(case))
    first, second = results
    for ours, theirs, exactly in ((first, second, True), (first, one, False)):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-7 if exactly else 1e-4)
        for part in ("changes", "draws"):
            assert_same(ours[part], theirs[part], exactly=exactly)
        for draw, logits in ours["logits"].items():
            torch.testing.assert_close(logits, theirs["logits"][draw], rtol=1e-3, atol=1e-3)
        assert ours["statistics"] == pytest.approx(theirs["statistics"], rel=1e-4)
    # Each process holds half, but for the rows that make an odd number.
    assert first["own_weights"] + second["own_weights"] == one["own_weights"]
    assert abs(first["own_weights"] - second["own_weights"]) < 0.05 * one["own_weights"]


@pytest.mark.parametrize("case", [*CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW)])
def test_sharded_is_whole(case: str) -> None:
    check(case, in_two_processes(*(QUICK if case in CASES else MORE))[f"shard:{case}"])


@pytest.mark.slow
@pytest.mark.parametrize("case", COARSE)
def test_what_rounds_coarsely_comes_close(case: str) -> None:
    one = shard_in_two.result(*shard_in_two.train(case))
    first, second = in_two_processes(*MORE)[f"shard:{case}"]
    for part in ("changes", "draws"):
        assert_same(first[part], second[part], exactly=True)
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-2)
    differing = sum(int((first["draws"][name]["keep"] != mask["keep"]).sum()) for name, mask in one["draws"].items())
    assert differing < 1e-2 * sum(mask["keep"].numel() for mask in one["draws"].values())


@pytest.mark.slow
def test_a_distributed_checkpoint_goes_on_bit_for_bit() -> None:
    for outcome in in_two_processes(*MORE)["shard:checkpoints"]:
        assert outcome["equal"] == {"supermask": True, "pruning": True}
        assert "8-bit moments of a sharded model cannot be saved" in outcome["8bit"]
