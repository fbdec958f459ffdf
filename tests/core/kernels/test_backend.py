import sys
import threading
from typing import Any

import pytest
import torch

from supermask.core import DrawKey, sample_keep_mask
from supermask.core.kernels import backend, backend_for, backends, kernels_for, reference, use_backend
from supermask.errors import ConfigurationError, MissingDependencyError, UnknownNameError


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPERMASK_BACKEND", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def not_installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(backend, "_missing", lambda name: f"{name} is gone" if name in names else "")


# The automatic choice.


def test_every_kind_of_device_has_its_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    not_installed(monkeypatch)
    kinds = ("cpu", "cuda:1", "meta", torch.device("cpu"))
    assert [backend_for(kind) for kind in kinds] == ["cpu", "triton", "eager", "cpu"]
    not_installed(monkeypatch, "triton")
    assert backend_for("cuda") == "eager"


@pytest.mark.parametrize(
    ("version", "expected"),
    [("3.1.0", "eager"), ("3.2.0", "triton"), ("3.10.1", "triton"), ("4.0.0+git12", "triton"), ("main", "triton")],
)
def test_cuda_with_a_triton_that_is_too_old_is_eager(
    version: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    backend._missing.cache_clear()
    try:
        assert backend_for("cuda") == expected
        (triton,) = (status for status in backends() if status.name == "triton")
        assert ("older than 3.2" in triton.reason) == (expected == "eager")
    finally:
        backend._missing.cache_clear()


def test_the_cpu_without_numba_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    not_installed(monkeypatch, "cpu")
    with pytest.raises(
        MissingDependencyError, match=r"cpu is gone; pip install -U numba, or force .*SUPERMASK_BACKEND=eager"
    ):
        backend_for("cpu")


def test_a_numba_that_cannot_be_imported_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba.broken", None)
    monkeypatch.setitem(backend._MODULES, "cpu", "numba.broken")
    with pytest.raises(
        MissingDependencyError, match=r"'cpu' cannot be loaded: .*Reinstall numba, or force .*SUPERMASK_BACKEND=eager"
    ):
        sample_keep_mask(torch.zeros(3), DrawKey(), "w")


# Forcing.


def test_a_forced_backend_is_used_inside_and_not_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), use_backend("eager"):
        assert backend_for("cpu") == backend_for("cuda") == "eager"
        assert kernels_for("cpu") is reference
        with use_backend("cpu"):
            assert backend_for("cpu") == "cpu"
        assert backend_for("cpu") == "eager"
        raise RuntimeError("on purpose")
    assert backend_for("cpu") == "cpu"
    monkeypatch.setenv("SUPERMASK_BACKEND", "eager")
    assert backend_for("cpu") == "eager"
    with use_backend("cpu"):  # comes first
        assert backend_for("cpu") == "cpu"
    monkeypatch.setenv("SUPERMASK_BACKEND", "")
    assert backend_for("cpu") == "cpu"


def test_other_threads_are_not_forced() -> None:
    chosen: list[str] = []
    with use_backend("eager"):
        thread = threading.Thread(target=lambda: chosen.append(backend_for("cpu")))
        thread.start()
        thread.join()
    assert chosen == ["cpu"]


def test_forcing_what_cannot_work_on_a_device_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    not_installed(monkeypatch)
    with (
        use_backend("cpu"),
        pytest.raises(ConfigurationError, match=r"'cpu', forced by use_backend, works on cpu tensors; received cuda"),
    ):
        backend_for("cuda")
    monkeypatch.setenv("SUPERMASK_BACKEND", "triton")
    with pytest.raises(
        ConfigurationError, match=r"'triton', forced by SUPERMASK_BACKEND, works on cuda tensors; received cpu"
    ):
        backend_for("cpu")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backend_for("cpu") == "triton"


def test_forcing_what_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    not_installed(monkeypatch, "triton")
    gone = pytest.raises(MissingDependencyError, match="'triton' cannot run: triton is gone")
    with gone, use_backend("triton"):
        pass
    monkeypatch.setenv("SUPERMASK_BACKEND", "triton")
    with gone:
        backend_for("cuda")


def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown: Any = "numba"
    with (
        pytest.raises(
            UnknownNameError, match=r"'numba', from use_backend, is no backend; backends: eager, cpu, triton"
        ),
        use_backend(unknown),
    ):
        pass
    monkeypatch.setenv("SUPERMASK_BACKEND", "Eager")
    with pytest.raises(UnknownNameError, match="'Eager', from SUPERMASK_BACKEND"):
        backend_for("cpu")


def test_public_functions_go_where_the_choice_says(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.linspace(-6, 6, 1000)
    masks = []
    for name in ("eager", "cpu"):
        monkeypatch.setenv("SUPERMASK_BACKEND", name)
        masks.append(sample_keep_mask(logits, DrawKey(step=3), "w"))
    assert torch.equal(*masks)
    called = []
    monkeypatch.setattr(reference, "draw_keep_mask", lambda logits, key: called.append(key))
    with use_backend("eager"):
        sample_keep_mask(logits, DrawKey(step=3), "w")
    assert called == [DrawKey(step=3).words("w")]


# What `supermask doctor` shows.


def test_the_list_says_what_can_run_what_is_chosen_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    not_installed(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    eager, cpu, triton = backends()
    assert eager.available and eager.devices == "all"
    assert cpu.available and cpu.automatic_for == ("cpu",)
    assert not triton.available and "no CUDA device" in triton.reason
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    eager, cpu, triton = backends()
    assert triton.available and triton.automatic_for == ("cuda",)
    not_installed(monkeypatch, "triton", "cpu")
    eager, cpu, triton = backends()
    assert [(status.available, status.reason) for status in (cpu, triton)] == [
        (False, "cpu is gone"),
        (False, "triton is gone"),
    ]
    assert eager.automatic_for == ("cuda",)
