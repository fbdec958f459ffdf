from __future__ import annotations

import inspect

import pytest

from supermask import errors
from supermask.errors import OutputError, SupermaskError

BUILTINS = {
    "BaseMismatchError": ValueError,
    "ConfigurationError": ValueError,
    "DataError": ValueError,
    "DeltaFormatError": ValueError,
    "DeltaStateError": RuntimeError,
    "ExportError": RuntimeError,
    "MissingDependencyError": ImportError,
    "OutputError": OSError,
    "SelectionError": LookupError,
    "UnknownNameError": LookupError,
}


def test_every_error_is_listed_and_has_a_builtin_of_its_own() -> None:
    defined = {name for name, _ in inspect.getmembers(errors, inspect.isclass) if name.endswith("Error")}
    assert defined == set(errors.__all__) == {*BUILTINS, "SupermaskError"}


@pytest.mark.parametrize("name", BUILTINS)
@pytest.mark.parametrize("caught_as_builtin", [False, True])
def test_an_error_is_caught_as_ours_and_as_pythons(name: str, caught_as_builtin: bool) -> None:
    kind = getattr(errors, name)
    with pytest.raises(BUILTINS[name] if caught_as_builtin else SupermaskError) as caught:
        raise kind("'querry' is no role; roles: query, key")
    assert str(caught.value) == "'querry' is no role; roles: query, key"


def test_a_lookup_error_does_not_quote_its_message_as_a_key_error_would() -> None:
    assert not issubclass(errors.UnknownNameError, KeyError)
    assert not issubclass(errors.SelectionError, KeyError)


def test_nothing_of_ours_is_caught_by_accident() -> None:
    # A missing row must not be taken for a file that cannot be written.
    for name, builtin in BUILTINS.items():
        others = {other for other in BUILTINS.values() if other is not builtin}
        assert not issubclass(getattr(errors, name), tuple(others)), name


def test_every_error_says_when_it_is_raised() -> None:
    for name in errors.__all__:
        assert inspect.getdoc(getattr(errors, name)), name


def test_an_output_error_shows_its_message_not_an_errno() -> None:
    assert str(OutputError("run/delta: cannot be written: No space left on device")).startswith("run/delta: cannot be")
