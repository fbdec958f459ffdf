import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from supermask.core import distance_kernels
from supermask.training import diagnosis
from supermask.training.diagnosis import Finding, diagnose


def finding(name: str) -> Finding:
    return next(found for found in diagnose().findings if found.name == name)


def test_a_sound_machine() -> None:
    found = diagnose()
    assert found.sound
    values = {one.name: one.value for one in found.findings}
    assert values["python"] == platform.python_version()
    assert values["torch"] == torch.__version__
    assert values["for cpu tensors"] == "cpu"
    assert values["cpu against eager, on cpu"] == "the same masks bit for bit"
    assert all(bool(one.remedy) == (one.state != "fine") for one in found.findings)


def test_a_backend_that_cannot_run_is_a_fault_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERMASK_BACKEND", "triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    found = finding("for cpu tensors")
    assert (found.state, found.value) == ("fault", "none")
    assert "eager" in found.remedy
    assert not diagnose().sound


def test_a_forced_backend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERMASK_BACKEND", "eager")
    assert finding("for cpu tensors").value == "eager, forced by SUPERMASK_BACKEND"


@pytest.mark.parametrize(
    ("compared", "told"),
    [(lambda *_: "the keep mask", "the keep mask differs"), (lambda *_: 1 / 0, "ZeroDivisionError")],
    ids=("they disagree", "the compiler fails"),
)
def test_kernels_that_do_not_agree_are_a_fault_and_no_crash(
    compared: Any, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "disagreement", compared)
    found = finding("cpu against eager, on cpu")
    assert found.state == "fault" and told in found.value
    assert "SUPERMASK_BACKEND=eager" in found.remedy


@pytest.mark.parametrize("place", [None, "folder"])
def test_compiled_code_that_cannot_be_kept(place: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path) if place else None))
    monkeypatch.setattr(distance_kernels, "unequal", stats)
    monkeypatch.setattr(diagnosis.os, "access", lambda *_: False)
    found = finding("kept in")
    assert found.state == "worse"
    assert "NUMBA_CACHE_DIR" in found.remedy
    assert diagnose().sound, "slower, but nothing is wrong"


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 999)
    assert finding("threads").state == "worse"
    assert "OMP_NUM_THREADS=" in finding("threads").remedy


@pytest.mark.parametrize(("offline", "words"), [(True, "offline"), (False, "online")])
def test_the_hubs_switch(offline: bool, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    assert finding("hub").value.startswith(words)
