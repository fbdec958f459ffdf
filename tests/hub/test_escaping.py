from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from supermask.hub.escaping import Source, as_markdown, one_line, slug

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


@given(st.text())
def test_a_line_is_one_and_shows_all_it_has(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 120
    assert one_line(line) == line


@given(st.text(st.sampled_from("a`|\\<>*_[]()!#~&;:/.@ \n\u202e$")))
def test_text_is_one_span_of_code_in_text_and_in_a_cell(text: str) -> None:
    code = as_markdown(text)
    (inline,) = [token for token in MARKDOWN.parse(f"x {code} y") if token.type == "inline"]
    kinds = [child.type for child in inline.children or []]
    assert kinds == (["text", "code_inline", "text"] if code != "(empty)" else ["text"])
    cells = [t.content for t in MARKDOWN.parse(f"| a | b |\n|---|---|\n| {code} | z |") if t.type == "inline"]
    assert cells == ["a", "b", code, "z"]


def test_what_is_no_text() -> None:
    shown = {value: as_markdown(value) for value in (1234, -5, 2**60, 10**400, 0.5, "", Source("*x*"), None)}
    assert shown[1234] == "1,234" and shown[-5] == "-5" and shown[""] == "(empty)" and shown[Source("*x*")] == "*x*"
    assert shown[2**60] == f"`{2**60}`" and len(shown[10**400]) == 122 and shown[0.5] == "`0.5`"
    assert as_markdown(True) == "`True`" and as_markdown(["a"]) == "`['a']`"


@given(st.text())
def test_a_slug_is_an_identifier(text: str) -> None:
    found = slug(text)
    assert len(found) <= 96
    assert found == "" or (found.isascii() and not set(found) - set("._-") - {c for c in found if c.isalnum()})
    assert found == found.strip("-._")
