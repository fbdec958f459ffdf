"""A model sharded by FSDP2 over two processes learns what it learns whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import shard_in_two
from two_processes import QUICK, SHARDS, in_two_processes

CASES = ("supermask", "freezing", "pruning")
SLOW = ("checkpointing", "clipping", "per-rank", "pruning-global")
# Here a sum in another order is not rounded to nearly the same: to bfloat16, or in blocks that start elsewhere.
COARSE = ("bf16-base", "8bit")
MORE = tuple(f"shard:{case}" for case in (*SLOW, *COARSE, "checkpoints"))

pytestmark = pytest.mark.skipif(not SHARDS, reason="fully_shard came with torch 2.6")


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], *, exactly: bool, tolerance: float = 1e-4) -> None:
    assert list(ours) == list(theirs)
    for name in ours:
        for field, tensor in ours[name].items():
            other = theirs[name][field]
            if exactly or field == "keep":
                assert torch.equal(tensor, other), (name, field, int((tensor != other).sum()), tensor.numel())
            else:
                torch.testing.assert_close(tensor, other, rtol=tolerance, atol=1e-2 * tolerance, msg=name)


def check(case: str, results: list[dict[str, Any]], *, tolerance: float = 1e-4) -> None:
    one = shard_in_two.result(*shard_in_two.train(case))
    first, second = results
    for ours, theirs, exactly in ((first, second, True), (first, one, False)):
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-3 * tolerance if exactly else tolerance)
        for part in ("changes", "draws"):
            assert_same(ours[part], theirs[part], exactly=exactly, tolerance=tolerance)
        for draw, logits in ours["logits"].items():
            torch.testing.assert_close(logits, theirs["logits"][draw], rtol=10 * tolerance, atol=10 * tolerance)
        assert ours["statistics"] == pytest.approx(theirs["statistics"], rel=tolerance)
    # Each process holds half, but for the rows that make an odd number.
    assert first["own_weights"] + second["own_weights"] == one["own_weights"]
    assert abs(first["own_weights"] - second["own_weights"]) < 0.05 * one["own_weights"]


@pytest.mark.parametrize("case", CASES)
def test_sharded_is_whole(case: str) -> None:
    check(case, in_two_processes(*QUICK)[f"shard:{case}"])


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_more_of_the_sharded_is_whole(case: str) -> None:
    check(case, in_two_processes(*MORE)[f"shard:{case}"])


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
