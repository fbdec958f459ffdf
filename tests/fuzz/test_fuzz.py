"""The fuzzer's property on files that hypothesis picks; the long runs are commands of their own."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.judge import Violation, judge
from fuzz.mutants import mutant
from fuzz.other_files import judge_other_file, read_intact_ones
from fuzz.seeds import seeds
from supermask.deltas import container_v2

BUSY_SECONDS = 5.0  # on a machine that does other things, and the first time that code runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz")
    for intact in seeds():
        assert judge(intact.data, intact.base, place, limit_seconds=60).outcome == "right"
    read_intact_ones()
    return place


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 10**9))
def test_a_mutated_file_gives_the_delta_or_a_named_error(folder: Path, number: int) -> None:
    mutated = mutant(random.Random(number))
    judge(mutated.data, mutated.base, folder, sealed=mutated.sealed, limit_seconds=BUSY_SECONDS)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 10**9))
def test_a_mutated_file_beside_a_delta_is_read_or_refused_by_name(folder: Path, number: int) -> None:
    judge_other_file(random.Random(number), folder, limit_seconds=BUSY_SECONDS)


def test_most_files_get_past_the_checksums() -> None:
    sealed = [mutant(random.Random(number)).sealed for number in range(300)]
    assert sum(sealed) > 150


def test_the_judge_notices_a_missing_check(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    intact = next(seed for seed in seeds() if judge(seed.data, seed.base, folder).outcome == "right")
    place = tmp_path / "judged"
    place.mkdir()
    monkeypatch.setattr(container_v2, "check_document", lambda *arguments: 1 / 0)
    monkeypatch.setattr("supermask.deltas.container_v1.check_document", lambda *arguments: 1 / 0)
    with pytest.raises(Violation, match="ZeroDivisionError"):
        judge(intact.data, intact.base, place)
    shutil.rmtree(place)
