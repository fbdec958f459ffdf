"""YAML as plain data: what a settings file needs of it, with the line of every value."""

from __future__ import annotations

import re
from typing import Any, Final, final

from supermask.errors import ConfigurationError, MissingDependencyError

__all__ = ["read_yaml"]

_DEEPEST: Final = 12
_IMPLICIT: Final = frozenset({"str", "int", "float", "bool", "null", "timestamp", "value", "merge"})
_INTEGER: Final = re.compile(r"[-+]?\d{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def read_yaml(text: str, *, source: str) -> tuple[dict[str, Any], dict[tuple[Any, ...], int]]:
    """A YAML mapping as plain data.

    It is stricter than YAML: a key may stand once, and there are neither aliases nor tags, so that what is read is what
    is written, and a small file cannot grow. Numbers are read as YAML 1.2 has them: `1e-8` is one.

    Args:
        text: the document.
        source: what to call it in messages.

    Returns:
        The mapping, and the line of every place in it: `("arms", 3, "method")` is the method of the fourth arm.

    Raises:
        ConfigurationError: naming every fault with its line.
        MissingDependencyError: if pyyaml is not installed.

    Example:
        >>> read_yaml("eps: 1e-8\\nrows: [one, 2]", source="mine.yaml")[0]
        {'eps': 1e-08, 'rows': ['one', 2]}
    """
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError("studies need pyyaml; run: pip install 'supermask[study]'") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(f"{source}:{mark.line + 1 if mark else 1}: is no YAML: {problem}") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{source}:1: is no mapping of settings such as 'name: table5'")
    reading = _Reading(yaml, source)
    content = reading.value(root, ())
    if reading.faults:
        raise ConfigurationError("; ".join(reading.faults))
    return content, reading.lines


@final
class _Reading:
    def __init__(self, yaml: Any, source: str) -> None:
        self.yaml, self.source = yaml, source
        self.lines: dict[tuple[Any, ...], int] = {}
        self.faults: list[str] = []
        self._seen: set[int] = set()

    def value(self, node: Any, where: tuple[Any, ...]) -> Any:
        self.lines[where] = node.start_mark.line + 1
        if id(node) in self._seen:  # an alias is the very node that it stands for
            return self._refuse(node, "an alias; write the value out")
        self._seen.add(id(node))
        if len(where) > _DEEPEST:
            return self._refuse(node, "nested too deeply for a settings file")
        if isinstance(node, self.yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, self.yaml.SequenceNode):
            return [self.value(item, (*where, index)) for index, item in enumerate(node.value)]
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _IMPLICIT:
            return self._refuse(node, f"the tag {node.tag}; write a plain value")
        return node.value if node.style else _plain(node.value)

    def _mapping(self, node: Any, where: tuple[Any, ...]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, self.yaml.ScalarNode) or key.value == "<<":
                self._refuse(key, "a key that is no word")
            elif key.value in content:
                self._refuse(key, f"the key {key.value!r} a second time")
            else:
                content[key.value] = self.value(inner, (*where, key.value))
        return content

    def _refuse(self, node: Any, what: str) -> None:
        self.faults.append(f"{self.source}:{node.start_mark.line + 1}: has {what}")


def _plain(text: str) -> Any:
    if text in ("", "null", "~"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
