"""The studies there are: specs as YAML, in the package and of your own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from supermask.errors import ConfigurationError, DataError, UnknownNameError
from supermask.study.spec import Study
from supermask.study.yaml_reading import read_yaml

__all__ = ["load_study", "parse_study", "study_names"]

# Figure 1 of the paper is an illustration of what L0-close and sparse mean: there is nothing to run.
_ORDER: Final = ("table", "figure", "appendix")
_LARGEST: Final = 2**20


def study_names() -> tuple[str, ...]:
    """The studies that come with the package: tables, figures (but for Figure 1, an illustration), appendix, ours.

    Example:
        >>> study_names()[:3], study_names()[-1]
        (('table1', 'table2', 'table3'), 'conventions')
    """
    folder = files("supermask.study") / "specs"
    names = (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(names, key=_place))


def load_study(name_or_path: str | Path) -> Study:
    """A study by its name, or from a YAML file of your own.

    Args:
        name_or_path: such as `table5`; or a path that ends in `.yaml` or `.yml`.

    Raises:
        UnknownNameError: if there is no such study.
        ConfigurationError: naming every fault of the spec with its line.
        DataError: if the file cannot be read.
        MissingDependencyError: if pyyaml is not installed.

    Example:
        >>> load_study("table6").title
        'Supermask learning rates on MRPC'
    """
    name = str(name_or_path)
    if isinstance(name_or_path, Path) or name.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        try:
            if path.stat().st_size > _LARGEST:
                raise DataError(f"{path}: is larger than a spec can be (1 MiB); name a study's YAML file")
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise DataError(f"{path}: is no UTF-8 text; save it as UTF-8") from None
        return parse_study(text, source=str(path))
    names = study_names()
    if name not in names:
        close = difflib.get_close_matches(name.lower().replace(" ", "").replace("_", "-"), names, n=1, cutoff=0.5)
        hint = f" did you mean {close[0]}?" if close else ""
        raise UnknownNameError(f"no study is called {name!r};{hint} studies are: {', '.join(names)}")
    text = (files("supermask.study") / "specs" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_study(text, source=f"{name}.yaml")


def parse_study(text: str, *, source: str) -> Study:
    """A study from YAML.

    Args:
        text: the YAML.
        source: what to call it in messages.

    Raises:
        ConfigurationError: naming every fault with its line.
    """
    content, lines = read_yaml(text, source=source)
    study = Study.__new__(Study)
    try:
        # As `Study(**content)`, but with the places of the faults, and for keys that are no words.
        Study.__pydantic_validator__.validate_python(content, self_instance=study)
    except ValidationError as error:
        faults = sorted(_fault(fault, lines) for fault in error.errors())
        raise ConfigurationError("; ".join(f"{source}:{line}: {message}" for line, message in faults)) from None
    return study


def _place(name: str) -> tuple[int, int, str]:
    kind = name.rstrip("0123456789")
    ranks = [rank for rank, start in enumerate(_ORDER) if kind.startswith(start)]
    return (ranks[0] if ranks else len(_ORDER), int(name.removeprefix(kind) or 0), name)


def _fault(fault: Any, lines: Mapping[tuple[Any, ...], int]) -> tuple[int, str]:
    where = tuple(fault["loc"])
    line = next((lines[where[:end]] for end in range(len(where), -1, -1) if where[:end] in lines), 1)
    name = ".".join(map(str, where))
    cause = fault.get("ctx", {}).get("error")
    if fault["type"] == "extra_forbidden":
        message = f"{name!r} is no setting; settings: {', '.join(Study.model_fields)}"
    elif fault["type"] == "missing":
        message = f"{name} is required"
    elif isinstance(cause, ConfigurationError):
        message = f"{name}: {str(cause).removeprefix('Arm: ').removeprefix('Expected: ')}"
    else:
        said = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        received = "" if fault["type"] == "value_error" else f", received {_short(fault['input'])}"
        message = f"{name}: {said}{received}"
    return line, message


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
