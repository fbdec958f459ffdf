from __future__ import annotations

import pytest

from supermask.deltas.store.names import default_name, name_fault, require_name
from supermask.errors import ConfigurationError


@pytest.mark.parametrize(
    "name", ["mrpc", "RTE-seed0", "a", "9", "v1.2_x", "con-sent", "lpt10", "x" * 100, "store.jsonl"]
)
def test_names(name: str) -> None:
    assert name_fault(name) is None
    require_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:", "c:x", ".hidden", "-rf", "_x", " ", "a b", "a\n", "a\0b"),
        *("mrpc\n", "ä", "а", "a\u202eb", "\ud800", "a*", "a?", "a|b", "~", "$HOME", "x" * 101, "a:b", '"', "a\x1b[2J"),
        *("con", "CON", "Con.txt", "aux", "nul.v1", "PRN", "com0", "COM9", "lpt1.x", "a.", "a..", "x.safetensors"),
        *("X.SafeTensors", "store.json", "STORE.JSON", "readme.md", "README.md", "License"),
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="choose another name") as caught:
        require_name(name)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 300


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("mrpc", "mrpc"),
        ("probe-sentiment", "probe-sentiment"),
        ("my data/2", "my-data-2"),
        ("../../etc/passwd", "etc-passwd"),
        ("  stars & stripes  ", "stars-stripes"),
        ("x" * 99 + " y", "x" * 99),
        ("größe", "gr-e"),
    ],
)
def test_default_names(task: str, name: str) -> None:
    assert default_name({"name": task}) == name


@pytest.mark.parametrize("task", [{}, {"name": None}, {"name": 3}, {"name": ""}, {"name": "???"}, {"name": "nul"}])
def test_what_gives_no_name(task: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="pass a name"):
        default_name(task)
