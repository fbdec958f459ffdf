from __future__ import annotations

import ast
import json

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from supermask.hub.escaping import as_code, as_fenced_json, as_python_string, one_line, slug

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


@given(st.text())
def test_a_line_is_one_and_shows_all_it_has(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 120
    assert one_line(line) == line


@given(st.text(st.sampled_from("a`|\\<>*_[]()!#~&;:/.@ \n\u202e$")))
def test_code_is_one_span_in_text_and_in_a_cell(text: str) -> None:
    code = as_code(text)
    (inline,) = [token for token in MARKDOWN.parse(f"x {code} y") if token.type == "inline"]
    kinds = [child.type for child in inline.children or []]
    assert kinds == (["text", "code_inline", "text"] if code != "(empty)" else ["text"])
    cells = [t.content for t in MARKDOWN.parse(f"| a | b |\n|---|---|\n| {code} | z |") if t.type == "inline"]
    assert cells == ["a", "b", code, "z"]


@given(st.text())
def test_a_string_of_python_is_that_string(text: str) -> None:
    source = as_python_string(text)
    assert source.isascii() and source.isprintable()
    if text.isprintable() and text.isascii():
        assert ast.literal_eval(source) == text


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_a_fence_is_ended_by_nothing_in_it(value: dict[str, object]) -> None:
    (fence,) = MARKDOWN.parse(as_fenced_json(value))
    assert fence.type == "fence"
    assert json.loads(fence.content) == value


@given(st.text())
def test_a_slug_is_an_identifier(text: str) -> None:
    found = slug(text)
    assert len(found) <= 96
    assert found == "" or (found.isascii() and not set(found) - set("._-") - {c for c in found if c.isalnum()})
    assert found == found.strip("-._")
