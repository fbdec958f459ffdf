import statistics
from pathlib import Path

import pytest

from supermask.report.results import Seeded
from tiny_records import raw, results_of


def test_seeds_and_draws_are_kept_apart(recorded: Path) -> None:
    seen = results_of("table3", recorded).observe("supermask-123-init30", "mrpc")
    records = [raw(recorded, f"mrpc/supermask-123-init30-seed{seed}") for seed in range(3)]
    score, sampled, draw_sd = seen.score(), seen.sampled_score(), seen.draw_sd()
    assert score is not None and sampled is not None and draw_sd is not None
    assert score.values == {seed: 100 * records[seed]["scores"]["dev"]["f1"] for seed in range(3)}
    assert score.sd == pytest.approx(statistics.stdev(100 * one["scores"]["dev"]["f1"] for one in records))
    draws = [[100 * value for value in one["sampled_scores"]["dev"]["f1"]["values"]] for one in records]
    assert sampled.mean == pytest.approx(statistics.fmean(statistics.fmean(values) for values in draws))
    assert draw_sd == pytest.approx(statistics.fmean(statistics.variance(values) for values in draws) ** 0.5)
    assert seen.paths == tuple(f"mrpc/supermask-123-init30-seed{seed}.json" for seed in range(3))
    assert seen.missing == tuple(f"mrpc/supermask-123-init30-seed{seed}" for seed in range(3, 10))


def test_what_is_not_masked_has_no_sparsity(recorded: Path) -> None:
    results = results_of("table5", recorded)
    assert results.observe("full", "mrpc").sparsity() is None
    assert results.observe("full", "mrpc").sampled_score() is None
    share = raw(recorded, "cola/supermask-seed0")["delta"]["sparsity"]
    assert results.observe("supermask", "cola").sparsity() == Seeded({0: 100 * share})


def test_a_task_without_records_is_missing_not_empty(recorded: Path) -> None:
    seen = results_of("table5", recorded).observe("supermask", "qnli")
    assert seen.cells and not seen.records and seen.missing == ("qnli/supermask-seed0",)
    assert seen.score() is None and seen.steps() is None
    assert not results_of("table6", recorded).observe("supermask", "rte").cells


def test_the_mean_of_one_seed_has_no_spread() -> None:
    assert Seeded({0: 80.0}).sd is None
    assert Seeded({0: 80.0, 1: 82.0}).sd == pytest.approx(2**0.5)
