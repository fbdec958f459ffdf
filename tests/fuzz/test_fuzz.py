"""Attacks by name, and the fuzzer's property on files that hypothesis picks; the long run is attacks/run.py."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.attacks import ATTACKS, Attack
from fuzz.bases import base_named
from fuzz.judge import Violation, judge, loaded
from fuzz.mutants import mutant
from fuzz.other_files import SPARSE, judge_other_file, read_intact_ones
from fuzz.seeds import seeds
from supermask.deltas import file
from supermask.errors import BaseMismatchError, DeltaStateError
from supermask.interop import load_sparse_checkpoint

BUSY_SECONDS = 5.0  # on a machine that does other things, and the first time that code runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz")
    for intact in seeds():
        assert judge(intact.data, intact.base, place, limit_seconds=60).outcome == "right"
    read_intact_ones()
    return place


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.what)
def test_an_attack_fails_as_it_must(folder: Path, attack: Attack) -> None:
    verdict = judge(attack.craft(), "every", folder, limit_seconds=BUSY_SECONDS)
    assert verdict.outcome in attack.outcome.split("|"), verdict.message
    assert re.search(attack.words, verdict.message)


@pytest.mark.parametrize("what", ["another base", "a tensor taken out of the fingerprint"])
def test_a_delta_of_another_base_is_not_applied(what: str) -> None:
    delta = loaded(next(attack.craft() for attack in ATTACKS if attack.what == what))
    with pytest.raises(BaseMismatchError, match=r"differ|not in that base"):
        delta.apply_(base_named("every").model)


def test_what_a_delta_calls_its_task_steers_no_terminal(folder: Path) -> None:
    steering = Attack("", "", "", lambda parts: parts.document["task"].update(name="\x1b[2J\x9b2J\u202e"))
    delta, model = loaded(steering.craft()), base_named("every").model
    with delta.applied(model), pytest.raises(DeltaStateError) as caught:
        delta.apply_(model)
    assert str(caught.value).isprintable()


def test_code_beside_a_sparse_checkpoint_is_not_run(tmp_path: Path) -> None:
    place = shutil.copytree(SPARSE, tmp_path / "sparse")
    content = json.loads((place / "config.json").read_text())
    content |= {"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"}}
    (place / "config.json").write_text(json.dumps(content))
    (place / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    load_sparse_checkpoint(place)
    assert not (tmp_path / "ran").exists()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 10**9))
def test_a_mutated_file_gives_the_delta_or_a_named_error(folder: Path, number: int) -> None:
    mutated = mutant(random.Random(number))
    judge(mutated.data, mutated.base, folder, sealed=mutated.sealed, limit_seconds=BUSY_SECONDS)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.integers(0, 10**9))
def test_a_mutated_file_beside_a_delta_is_read_or_refused_by_name(folder: Path, number: int) -> None:
    judge_other_file(random.Random(number), folder, limit_seconds=BUSY_SECONDS)


def test_most_files_get_past_the_hashes() -> None:
    assert sum(mutant(random.Random(number)).sealed for number in range(300)) > 150


def test_the_judge_notices_a_missing_check(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    intact = seeds()[0]
    monkeypatch.setattr(file, "_read_document", lambda *arguments: 1 / 0)
    with pytest.raises(Violation, match="ZeroDivisionError"):
        judge(intact.data, intact.base, tmp_path)
