"""Verdicts follow from records: with other records, the same rules give another verdict."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from supermask import load_task
from supermask.report.reading import Finding, read_results
from supermask.report.reading.finding import Verdict
from supermask.report.reading.learning import CLOSE_POINTS, CONSTANT_ANSWER_PERCENT
from supermask.report.results import collect
from supermask.study import RecordStore, load_study, overridden, study_names
from supermask.tasks import find_task
from supermask.tasks.metrics import score
from tiny_records import MASKED, fill, results_of, scored, tiny_pair

Scores = Callable[[Any], float]
Zeros = Mapping[str, float]


BOTH = ("sst2", "qnli")
ZEROS = {"supermask": 0.02, "supermask-init20": 0.2, "supermask-init40": 0.4, "supermask-init70": 0.7}


def findings(folder: Path, *names: str, claim: str = "") -> list[Finding]:
    store = RecordStore(folder)
    found = read_results({name: collect(load_study(name), store) for name in names})
    return [finding for finding in found if claim in finding.claim]


def record_scores(
    folder: Path, name: str, scores: Scores, tasks: Sequence[str] = BOTH, seeds: int = 1, zeros: Zeros | None = None
) -> None:
    """Record a study whose every score, drawn masks' too, is what `scores` says; sparsities by arm if given."""

    def change(run: Any, record: Any) -> Any:
        record, share = scored(record, scores(run)), (zeros or {}).get(run.arm)
        if share is None:
            return record
        drawn = None if record.sampled_sparsity is None else share
        delta = {"zeros": int(share * MASKED), "constrained_weights": MASKED, "sparsity": share}
        return record.model_copy(update={"sampled_sparsity": drawn, "delta": record.delta.model_copy(update=delta)})

    fill(folder, [overridden(load_study(name), tasks=tasks, seeds=range(seeds))], change=change, measured=False)


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


def low(gap: float) -> Scores:
    return lambda run: 0.9 - (gap / 100 if run.arm == "supermask" else 0.0)


def levels(at_40: float, at_70: float) -> Scores:
    return lambda run: {"supermask-init40": at_40, "supermask-init70": at_70}.get(run.arm, 0.9)


def excluding(loss: float) -> Scores:
    noise = (0.004, -0.003, 0.001)
    baseline = {"full": 1.0}
    return lambda run: 0.89 + noise[run.seed] * baseline.get(run.arm, 0.5) - (loss if run.arm == "freezing-2" else 0.0)


def drifted(sparse: float) -> dict[str, float]:
    ends = {"supermask-init70": 0.7 + sparse, "supermask-init90": 0.9 + sparse}
    return {"supermask": 0.03, "supermask-init20": 0.23, "supermask-init40": 0.4, **ends}


DENSE = {"zeros": {**ZEROS, "supermask-init90": 0.2}}  # one that came out dense is no point beyond 40 %
CASES: list[tuple[str, str, Scores, dict[str, Any], list[Verdict]]] = [
    ("start dense", "table5", low(1.0), {}, ["agrees", "agrees"]),  # against either baseline
    ("start dense", "table5", low(CLOSE_POINTS + 0.1), {}, ["differs", "differs"]),
    ("start dense", "table5", low(1.0), {"tasks": ("sst2",)}, ["open", "open"]),  # one task alone
    (" zeros", "figure3", levels(0.89, 0.7), DENSE, ["agrees", "agrees"]),
    (" zeros", "figure3", levels(0.7, 0.7), DENSE, ["differs", "agrees"]),
    (" zeros", "figure3", levels(0.89, 0.89), DENSE, ["agrees", "differs"]),
    ("or all three", "table3", excluding(0.0), {"tasks": ("mrpc",)}, ["open"]),
    ("or all three", "table3", excluding(0.0), {"tasks": ("mrpc",), "seeds": 3}, ["agrees"]),
    ("or all three", "table3", excluding(0.05), {"tasks": ("mrpc",), "seeds": 3}, ["differs"]),
    ("2e-1", "table6", lambda run: 0.8 + 0.1 * run.method["learning_rate"], {"tasks": ("mrpc",)}, ["agrees"]),
    ("2e-1", "table6", lambda run: 0.2 - 0.1 * run.method["learning_rate"], {"tasks": ("mrpc",)}, ["differs"]),
    ("get denser", "figure9", lambda run: 0.9, {"zeros": drifted(-0.02)}, ["agrees"]),
    ("get denser", "figure9", lambda run: 0.9, {"zeros": drifted(0.02)}, ["mixed"]),
]


@pytest.mark.parametrize(("claim", "study", "scores", "how", "expected"), CASES)
def test_a_verdict_follows_from_the_scores(
    tmp_path: Path, claim: str, study: str, scores: Scores, how: dict[str, Any], expected: list[Verdict]
) -> None:
    record_scores(tmp_path, study, scores, **how)
    assert [one.verdict for one in findings(tmp_path, study, claim=claim)] == expected


def test_evidence_has_differences_and_names_what_is_worse_and_what_is_not_counted(tmp_path: Path) -> None:
    record_scores(tmp_path, "table5", lambda run: 0.55 if run.task == "rte" else low(1.0)(run), (*BOTH, "rte"))
    found = findings(tmp_path, "table5", claim="start dense")[0].evidence
    assert "−1.0" in found and "2 of 2 tasks" in found and "constant answer: RTE (52.7)" in found
    record_scores(tmp_path, "table3", excluding(0.05), ("mrpc",), seeds=3)
    assert "(2) Deepest encoder stack layers" in findings(tmp_path, "table3")[0].evidence.split("Worse")[1]


@pytest.mark.parametrize(("level", "expected"), [(0.6, "agrees"), (0.95, "differs")])
def test_pruning_against_masks_of_like_sparsity(tmp_path: Path, level: float, expected: str) -> None:
    claim = "iterative pruning does better"
    record_scores(tmp_path, "figure3", lambda run: level, zeros={**ZEROS, "supermask-init90": 0.9})
    record_scores(tmp_path, "figure8", lambda run: 0.8)
    assert [one.verdict for one in findings(tmp_path, "figure8", "figure3", claim=claim)] == [expected]
    assert [one.verdict for one in findings(tmp_path, "figure8", claim=claim)] == ["open"]  # without masks


@pytest.mark.parametrize(("turned", "expected"), [(False, "agrees"), (True, "differs")])
def test_steps_and_zeros(tmp_path: Path, turned: bool, expected: str) -> None:
    order = {"rte": 0.01, "mrpc": 0.02, "stsb": 0.03, "cola": 0.04, "sst2": 0.08}

    def change(run: Any, record: Any) -> Any:
        share = 0.1 - order[run.task] if turned else order[run.task]
        return record.model_copy(update={"sampled_sparsity": share if record.sampled_sparsity is not None else None})

    fill(tmp_path, [overridden(load_study("table5"), tasks=tuple(order))], change=change, measured=False)
    assert [one.verdict for one in findings(tmp_path, "table5", claim="rises with the length")] == [expected]


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
