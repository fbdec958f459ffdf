"""`supermask doctor`."""

import json

import pytest

from supermask.training import diagnosis
from tiny_command import call, said


def test_a_sound_machine() -> None:
    text = said("doctor")
    for topic in ("versions", "devices", "kernels", "compiled code", "hub"):
        assert topic in text.splitlines()
    assert text.splitlines()[-1] == "no fault"


def test_a_fault_makes_the_exit_code_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "disagreement", lambda *_: "the keep mask")
    outcome = call("doctor")
    assert outcome.exit_code == 1
    marked = next(line for line in outcome.stdout.splitlines() if line.startswith("!"))
    assert "the keep mask differs" in marked
    assert "SUPERMASK_BACKEND=eager" in outcome.stdout
    assert outcome.stdout.splitlines()[-1] == "1 fault, marked !"


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERMASK_BACKEND", "nonsense")
    outcome = call("doctor", "--json")
    document = json.loads(outcome.stdout)
    assert (outcome.exit_code, document["sound"]) == (1, False)
    [fault] = [found for found in document["findings"] if found["state"] == "fault"]
    assert "'nonsense'" in fault["remedy"]
