from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.hub import HubAddress, parse_address
from supermask.hub.address import find_place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("someone/some-delta", HubAddress("someone/some-delta")),
        ("hf://someone/some-delta", HubAddress("someone/some-delta")),
        ("someone/a@v1.0", HubAddress("someone/a", "v1.0")),
        ("someone/a@refs/pr/12", HubAddress("someone/a", "refs/pr/12")),
        ("someone/a@v1/glue/mrpc", HubAddress("someone/a", "v1", "glue/mrpc")),
        ("someone/a@refs/pr/12/mrpc", HubAddress("someone/a", "refs/pr/12", "mrpc")),
        ("hf://someone/a/glue/mrpc", HubAddress("someone/a", None, "glue/mrpc")),
        *((text, None) for text in ("", "word", "a/b/c", "./a/b", "/a/b", "~/a", "..", "../a", "a\\b", "C:/a/b")),
        *((text, None) for text in ("a/", "/a", "a//b", "a b/c", "a/b\n")),
    ],
)
def test_what_is_an_address_and_what_is_none(text: str, expected: HubAddress | None) -> None:
    assert parse_address(text) == expected
    assert expected is None or parse_address(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        *(("a/b@../../etc", "no branch, tag or commit"), ("a/b@-\x1b[2J", "no branch")),
        *((text, "no folder inside") for text in ("hf://a/b/../c", "hf://a/b/c//d", "a/b@v1/c/")),
    ],
)
def test_a_part_that_cannot_be_is_said(text: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        parse_address(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_and_never_leads_out(text: str) -> None:
    try:
        found = parse_address(f"hf://a/b{text}")
    except ConfigurationError as error:
        assert "\n" not in str(error)
        return
    if found is not None and found.subfolder is not None:
        assert Path("/top", found.subfolder).resolve().is_relative_to("/top")
        assert ".." not in (found.revision or "")


def test_a_place_on_this_machine_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_place("someone/a") == HubAddress("someone/a")
    (tmp_path / "someone" / "a" / "mrpc").mkdir(parents=True)
    assert find_place("someone/a") == Path("someone/a")
    assert find_place("~/someone/a") == tmp_path / "someone" / "a"
    assert find_place("someone/a", subfolder="mrpc") == Path("someone/a/mrpc")
    assert find_place("hf://someone/a", subfolder="mrpc") == HubAddress("someone/a", None, "mrpc")
    with pytest.raises(ConfigurationError, match=r"is a file or folder here.*or write hf://someone/a for the hub's"):
        find_place("someone/a", revision="v1")
    with pytest.raises(UnknownNameError, match="has no folder 'rte' in it"):
        find_place("someone/a", subfolder="rte")
    for odd in ("a/b@v1/../c", "a/b@-"):  # as addresses they could not be
        (tmp_path / odd).mkdir(parents=True)
        assert find_place(odd) == Path(odd)
    for path in (Path("someone/nope"), "./nope", "a/b/c", ""):  # a path is never a hub id
        with pytest.raises(UnknownNameError, match=r"there is no file or folder .*OWNER/NAME"):
            find_place(path)


def test_nothing_is_said_twice() -> None:
    assert find_place("a/b@v1", subfolder="c") == HubAddress("a/b", "v1", "c")
    for address, options, what in (
        ("a/b@v1", {"revision": "v2"}, "revision and revision='v2' is given too"),
        ("a/b@v1/c", {"subfolder": "d"}, "subfolder"),
    ):
        with pytest.raises(ConfigurationError, match=f"names a {what}"):
            find_place(address, **options)


@pytest.mark.parametrize("subfolder", ["", ".", "..", "a/../b", "/a", "a\\b", "a//b", "a/", "C:/a", "a\nb", "./a"])
def test_a_subfolder_stays_inside(subfolder: str, tmp_path: Path) -> None:
    for place in (tmp_path, "a/b"):
        with pytest.raises(ConfigurationError, match="no folder inside a repository or folder"):
            find_place(place, subfolder=subfolder)
