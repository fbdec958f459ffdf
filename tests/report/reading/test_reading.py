"""Verdicts follow from records: with other records, the same rules give another verdict."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from supermask import load_task
from supermask.report.reading import Finding, read_results
from supermask.report.reading.learning import CLOSE_POINTS, CONSTANT_ANSWER_PERCENT
from supermask.report.results import collect
from supermask.study import RecordStore, load_study, overridden, study_names
from supermask.tasks import find_task
from supermask.tasks.metrics import score
from tiny_records import MASKED, fill, results_of, scored, tiny_pair

Scores = Callable[[Any], float]


def findings(folder: Path, *names: str) -> list[Finding]:
    store = RecordStore(folder)
    return list(read_results({name: collect(load_study(name), store) for name in names}))


def verdict(folder: Path, claim: str, *names: str) -> Finding:
    found = [finding for finding in findings(folder, *names) if claim in finding.claim]
    assert len(found) == 1, [finding.claim for finding in found]
    return found[0]


def with_scores(
    folder: Path,
    name: str,
    scores: Scores,
    *,
    tasks: tuple[str, ...] = ("sst2", "qnli"),
    seeds: int = 1,
    zeros: Mapping[str, float] | None = None,
) -> Path:
    """Records of a study whose every score, drawn masks' too, is what `scores` says; sparsities by arm if given."""

    def change(run: Any, record: Any) -> Any:
        record = scored(record, scores(run))
        if run.arm not in (zeros or {}):
            return record
        share = zeros[run.arm] if zeros else 0.0
        drawn = None if record.sampled_sparsity is None else share
        delta = {"zeros": int(share * MASKED), "constrained_weights": MASKED, "sparsity": share}
        return record.model_copy(update={"sampled_sparsity": drawn, "delta": record.delta.model_copy(update=delta)})

    study = overridden(load_study(name), tasks=tasks, seeds=range(seeds))
    fill(folder, [study], change=change, measured=False)
    return folder


def test_every_finding_says_its_evidence_and_its_rule(recorded: Path) -> None:
    found = findings(recorded, *study_names())
    assert len(found) >= 25 and {finding.study for finding in found} <= set(study_names())
    for finding in found:
        assert finding.claim and finding.evidence.endswith(".") and finding.criterion.endswith(".")


def test_without_records_all_claims_but_the_computed_one_are_open(tmp_path: Path) -> None:
    found = findings(tmp_path, *study_names())
    verdicts = {finding.claim: finding.verdict for finding in found if finding.study != "table1"}
    assert set(verdicts.values()) == {"open", "ours"}
    assert [finding.verdict for finding in found if finding.study == "table1"] == ["agrees"]


def low(run: Any, gap: float) -> float:
    return 0.9 - (gap / 100 if run.arm == "supermask" else 0.0)


@pytest.mark.parametrize(("gap", "expected"), [(1.0, "agrees"), (CLOSE_POINTS + 0.1, "differs")])
def test_low_sparsity_is_judged_by_the_papers_own_largest_loss(tmp_path: Path, gap: float, expected: str) -> None:
    folder = with_scores(tmp_path, "table5", lambda run: low(run, gap))
    found = [one for one in findings(folder, "table5") if "start dense" in one.claim]
    assert [one.verdict for one in found] == [expected, expected]  # against either baseline
    assert f"−{gap:.1f}" in found[0].evidence


def test_one_task_alone_leaves_a_claim_about_tasks_open(tmp_path: Path) -> None:
    folder = with_scores(tmp_path, "table5", lambda run: low(run, 1.0), tasks=("sst2",))
    assert {one.verdict for one in findings(folder, "table5") if "start dense" in one.claim} == {"open"}


def test_a_task_on_which_the_baseline_learnt_nothing_is_not_counted(tmp_path: Path) -> None:
    tasks = ("sst2", "qnli", "rte")
    folder = with_scores(tmp_path, "table5", lambda run: 0.55 if run.task == "rte" else 0.9, tasks=tasks)
    found = next(one for one in findings(folder, "table5") if "start dense" in one.claim)
    assert "2 of 2 tasks" in found.evidence and "constant answer: RTE (52.7)" in found.evidence


ZEROS = {"supermask": 0.02, "supermask-init20": 0.2, "supermask-init40": 0.4, "supermask-init70": 0.7}


@pytest.mark.parametrize(
    ("at_40", "at_70", "expected"),
    [(0.89, 0.7, ("agrees", "agrees")), (0.7, 0.7, ("differs", "agrees")), (0.89, 0.89, ("agrees", "differs"))],
)
def test_sparsity_and_score(tmp_path: Path, at_40: float, at_70: float, expected: tuple[str, str]) -> None:
    levels = {"supermask-init40": at_40, "supermask-init70": at_70}
    zeros = {**ZEROS, "supermask-init90": 0.2}  # one that came out dense is no point beyond 40 %
    found = findings(with_scores(tmp_path, "figure3", lambda run: levels.get(run.arm, 0.9), zeros=zeros), "figure3")
    assert (found[0].verdict, found[1].verdict) == expected


def table3(folder: Path, loss: float, seeds: int) -> Finding:
    def scores(run: Any) -> float:
        noise = (0.004, -0.003, 0.001, 0.002)[run.seed]
        return 0.89 + noise * (1 if run.arm == "full" else 0.5) - (loss if run.arm == "freezing-2" else 0.0)

    with_scores(folder, "table3", scores, tasks=("mrpc",), seeds=seeds)
    return findings(folder, "table3")[0]


def test_excluding_layers_is_judged_by_intervals_and_needs_seeds(tmp_path: Path) -> None:
    assert table3(tmp_path / "one", 0.0, 1).verdict == "open"
    assert table3(tmp_path / "same", 0.0, 3).verdict == "agrees"
    worse = table3(tmp_path / "worse", 0.05, 3)
    assert worse.verdict == "differs" and "(2) Deepest encoder stack layers" in worse.evidence.split("Worse")[1]


@pytest.mark.parametrize(("slope", "expected"), [(0.1, "agrees"), (-0.1, "differs")])
def test_learning_rates(tmp_path: Path, slope: float, expected: str) -> None:
    scores = lambda run: 0.8 + slope * run.method["learning_rate"]  # noqa: E731
    folder = with_scores(tmp_path, "table6", scores, tasks=("mrpc",))
    assert verdict(folder, "learning rate of 2e-1", "table6").verdict == expected


@pytest.mark.parametrize(("level", "expected"), [(0.6, "agrees"), (0.95, "differs")])
def test_pruning_against_masks_of_like_sparsity(tmp_path: Path, level: float, expected: str) -> None:
    claim = "iterative pruning does better"
    with_scores(tmp_path, "figure3", lambda run: level, zeros={**ZEROS, "supermask-init90": 0.9})
    with_scores(tmp_path, "figure8", lambda run: 0.8)
    assert verdict(tmp_path, claim, "figure8", "figure3").verdict == expected
    assert verdict(tmp_path, claim, "figure8").verdict == "open"  # without masks to compare with


@pytest.mark.parametrize(("sparse", "expected"), [(-0.02, "agrees"), (0.02, "mixed")])
def test_drift(tmp_path: Path, sparse: float, expected: str) -> None:
    zeros = {"supermask": 0.03, "supermask-init20": 0.23, "supermask-init40": 0.4}
    zeros |= {"supermask-init70": 0.7 + sparse, "supermask-init90": 0.9 + sparse}
    with_scores(tmp_path, "figure9", lambda run: 0.9, zeros=zeros)
    assert findings(tmp_path, "figure9")[0].verdict == expected


@pytest.mark.parametrize(("turned", "expected"), [(False, "agrees"), (True, "differs")])
def test_steps_and_zeros(tmp_path: Path, turned: bool, expected: str) -> None:
    order = {"rte": 0.01, "mrpc": 0.02, "stsb": 0.03, "cola": 0.04, "sst2": 0.08}

    def change(run: Any, record: Any) -> Any:
        share = 0.1 - order[run.task] if turned else order[run.task]
        return record.model_copy(update={"sampled_sparsity": share if record.sampled_sparsity is not None else None})

    fill(tmp_path, [overridden(load_study("table5"), tasks=tuple(order))], change=change, measured=False)
    assert verdict(tmp_path, "rises with the length", "table5").verdict == expected


def test_measured_claims_on_the_made_up_records(recorded: Path) -> None:
    """The made-up measures put all zeros as the paper finds them, share 1.1 times chance, and turn away with depth."""
    found = findings(recorded, "figure4", "figure7", "table4", "figure2", "figure10")

    def of(part: str) -> str:
        return next(one.verdict for one in found if part in one.claim)

    assert of("are sparser than value") == of("Shallow blocks") == of("(first block") == of("(all masked") == "agrees"
    assert of("far larger than what magnitude") == "agrees"
    assert of("Deeper blocks are less L1-close") == "mixed"  # L1 grows with depth, but so does the angle
    assert of("Value and attention output") == "agrees"


def test_overlap_is_judged_by_its_size(recorded: Path, tmp_path: Path) -> None:
    results = results_of("figure7", recorded)
    runs = {cell.spec.task: cell.spec for cell in results.cells}
    for ratio, expected in ((1.0, "agrees"), (1.6, "mixed"), (3.0, "differs")):
        pairs = (tiny_pair(runs["cola"], runs["mrpc"], ratio=ratio),)
        found = read_results({"figure7": dataclasses.replace(results, pairs=pairs)})
        assert [finding.verdict for finding in found] == [expected, expected]


@pytest.mark.data
@pytest.mark.parametrize("task", ["sst2", "cola", "mrpc", "rte"])
def test_constant_answers_are_those_of_the_official_files(task: str) -> None:
    if "SUPERMASK_GLUE_DIR" not in os.environ:
        pytest.skip("SUPERMASK_GLUE_DIR names no folder with the official GLUE files")
    known = find_task(task)
    dev = load_task(task, data_dir=Path(os.environ["SUPERMASK_GLUE_DIR"]), splits=("dev",))["dev"]
    assert dev.labels is not None
    best = max(score(known, [label] * len(dev.labels), dev.labels)[known.primary_metric] for label in (0, 1))
    assert 100 * best == pytest.approx(CONSTANT_ANSWER_PERCENT[task], abs=0.05)
