"""The studies there are: specs as YAML, in the package and of your own."""

from __future__ import annotations

import difflib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from supermask.configuration import describe_fault
from supermask.errors import ConfigurationError, DataError, MissingDependencyError, UnknownNameError
from supermask.study.spec import Study

__all__ = ["load_study", "parse_study", "study_names"]

# Figure 1 of the paper is an illustration of what L0-close and sparse mean: there is nothing to run.
_ORDER: Final = ("t", "f", "a", "c")  # tables, figures, appendix, conventions
_LARGEST: Final = 2**20
_NUMBER: Final = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")


def study_names() -> tuple[str, ...]:
    """The studies that come with the package: tables, figures (but for Figure 1, an illustration), appendix, ours.

    Example:
        >>> study_names()[:3], study_names()[-1]
        (('table1', 'table2', 'table3'), 'conventions')
    """
    folder = files("supermask.study") / "specs"
    names = (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(names, key=lambda name: (_ORDER.index(name[0]), len(name), name)))


def load_study(name_or_path: str | Path) -> Study:
    """A study by its name, or from a YAML file of your own.

    Args:
        name_or_path: such as `table5`; or a path that ends in `.yaml` or `.yml`.

    Raises:
        UnknownNameError: if there is no such study.
        DataError: if the file cannot be read.
        ConfigurationError: naming every fault of the spec with its line.

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
    """A study from YAML, in which a key may stand once and nothing is an alias: what is read is what is written.

    Raises:
        ConfigurationError: naming every fault with its line in the source.
    """
    content, root = _read_yaml(text, source)
    study = Study.__new__(Study)
    try:
        # As `Study(**content)`, but with the places of the faults, and for keys that are no words.
        Study.__pydantic_validator__.validate_python(content, self_instance=study)
    except ValidationError as error:
        faults = sorted((_line(root, fault["loc"]), describe_fault(Study, fault)) for fault in error.errors())
        raise ConfigurationError("; ".join(f"{source}:{line}: {message}" for line, message in faults)) from None
    return study


def _read_yaml(text: str, source: str) -> tuple[Any, Any]:
    """The content of a mapping, and its node, which knows the lines."""
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError("studies need pyyaml; run: pip install 'supermask[study]'") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.MarkedYAMLError(problem="an alias; write the value out", problem_mark=mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for position, key in enumerate(keys):
                if key.value in [before.value for before in keys[:position]]:
                    problem = f"the key {key.value!r} a second time"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))  # 1e-8, as YAML 1.2 has it
    try:
        loader = Loader(text)
        root = loader.get_single_node()
        content = loader.construct_document(root) if root else None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(f"{source}:{mark.line + 1 if mark else 1}: cannot be read: {problem}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{source}:1: is no mapping of settings such as 'name: table5'")
    return content, root


def _line(node: Any, where: tuple[int | str, ...]) -> int:
    """Where in the text the value at that place stands, or what is nearest around it."""
    line: int = node.start_mark.line + 1
    for step in where:
        inner = {key.value: value for key, value in node.value} if node.id == "mapping" else dict(enumerate(node.value))
        if node.id == "scalar" or step not in inner:
            break
        node = inner[step]
        line = node.start_mark.line + 1
    return line
