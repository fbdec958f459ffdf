import pytest

from supermask.errors import ConfigurationError, DataError, OutputError, SupermaskError
from supermask.training.processes import Processes, _as_raised_in_first, current_processes, leave_processes


def test_alone_nothing_is_asked_of_others() -> None:
    processes = current_processes(use_cpu=True)
    assert processes == Processes(rank=0, count=1) and processes.first
    assert processes.on_first(lambda: 7) == 7
    processes.must_agree("a", what="nothing")
    with pytest.raises(OutputError, match="full"):
        processes.on_first(raising)
    leave_processes()


def raising() -> None:
    raise OutputError("the disk is full")


@pytest.mark.parametrize(("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "Deep")])
def test_other_ways_to_spread_a_model_are_refused(variable: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ConfigurationError, match=rf"launched for {name}.*distributed\.md"):
        current_processes(use_cpu=True)


@pytest.mark.parametrize(
    ("kind", "raised", "message"),
    [
        *((kind.__name__, kind, "no good") for kind in (SupermaskError, DataError, OutputError)),
        ("ZeroDivisionError", SupermaskError, "the first process stopped with ZeroDivisionError: no good"),
    ],
)
def test_an_error_of_the_first_is_of_its_kind_everywhere(kind: str, raised: type[SupermaskError], message: str) -> None:
    error = _as_raised_in_first(kind, "no good")
    assert type(error) is raised and str(error) == message
