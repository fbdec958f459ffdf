import inspect

import pytest

from supermask import errors
from supermask.errors import SupermaskError

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


@pytest.mark.parametrize(("name", "builtin"), BUILTINS.items())
def test_an_error_is_ours_and_one_of_pythons_and_shows_its_message(name: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, SupermaskError) and issubclass(kind, builtin)
    # A missing row must not be taken for a file that cannot be written; and a KeyError would quote its message.
    assert not issubclass(kind, (KeyError, *({*BUILTINS.values()} - {builtin})))
    assert str(kind("'querry' is no role; roles: query, key")) == "'querry' is no role; roles: query, key"
    assert inspect.getdoc(kind), "every error says when it is raised"
