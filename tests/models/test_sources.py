import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.models import sources
from supermask.models.sources import BaseSource, find_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(sources.urllib.request, "getproxies", dict)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A hub cache that holds one repository at one commit."""
    repository = tmp_path / "hub" / "models--someone--some-model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "snapshots" / COMMIT / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def message_of(name: str | Path, **options: str) -> str:
    with pytest.raises(UnknownNameError) as caught:
        find_source(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_a_source(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    assert find_source(tmp_path) == BaseSource(str(tmp_path), "folder", str(tmp_path))
    assert find_source(str(tmp_path)).kind == "folder"
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert find_source(f"~/{tmp_path.name}").location == str(tmp_path)
    with pytest.raises(ConfigurationError, match=r"revision 'main' was given, but .* is not on the hub"):
        find_source(tmp_path, "main")


def test_a_folder_without_configuration_is_no_model(tmp_path):
    assert message_of(tmp_path) == (
        f"the folder '{tmp_path}' has no config.json, so it is no saved model; pass a local folder with config.json "
        "and model.safetensors, or an embedded base such as 'minilm-l6'"
    )


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        *(
            (name, f"there is no folder '{name}'; pass a local folder")
            for name in ("./nope", "../nope", "/nope/nope", "~/nope", "~nobody-of-that-name/x", "a/b/c", "a\\b")
        ),
        (Path("nope"), "there is no folder 'nope'; pass a local folder"),
        ("minilm-l7", "there is no base 'minilm-l7'; did you mean minilm-l6? Otherwise pass a"),
        ("", "the name of the base is empty"),
        ("  ", "the name of the base is empty"),
    ],
)
def test_paths_misspellings_and_nothing_are_not_looked_up_on_the_hub(name, complaint, monkeypatch):
    monkeypatch.setattr(sources, "_hub_answers", None)
    assert message_of(name).startswith(complaint)


def test_a_known_name_comes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "minilm-l6").mkdir()
    (tmp_path / "minilm-l6" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "embedded_folder", lambda base: Path("embedded") / base.name)
    assert find_source("minilm-l6") == BaseSource("minilm-l6", "embedded", str(Path("embedded/minilm-l6")))
    assert find_source("./minilm-l6").kind == "folder"
    assert find_source(Path("minilm-l6")).kind == "folder"


def test_a_hub_id_is_resolved_to_its_commit(offline, cache):
    expected = BaseSource("someone/some-model", "hub", "someone/some-model", COMMIT, local_files_only=True)
    assert find_source("someone/some-model") == expected
    assert find_source("someone/some-model", "main") == expected
    assert find_source("someone/some-model", COMMIT) == expected


def test_without_network_an_unknown_id_is_a_short_error_at_once(offline, cache):
    assert message_of("someone/other-model") == (
        "'someone/other-model' is neither a folder nor in the cache, and the hub cannot be reached; pass a local "
        "folder with config.json and model.safetensors, or an embedded base such as 'minilm-l6'"
    )
    assert "neither a folder nor in the cache" in message_of("someone/some-model", revision="v2")
    assert "neither a folder nor a hub id" in message_of("so me/model")


@pytest.mark.parametrize(
    ("switched_off", "proxies", "resolves", "answers"),
    [
        (True, {}, True, False),
        (False, {"https": "http://proxy"}, False, True),  # behind a proxy names need not resolve here
        (False, {}, True, True),
        (False, {}, False, False),
    ],
)
def test_when_the_hub_is_asked(switched_off, proxies, resolves, answers, monkeypatch):
    asked = []

    def getaddrinfo(*place: object) -> None:
        asked.append(place)
        if not resolves:
            raise socket.gaierror("no network in tests")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", switched_off)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example:8443/path")
    monkeypatch.setattr(sources.urllib.request, "getproxies", lambda: proxies)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert sources._hub_answers() == answers
    assert asked == ([] if switched_off or proxies else [("hub.example", 8443)])


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        ("GatedRepoError", "the hub repository 'a/b' wants its terms accepted"),
        ("RepositoryNotFoundError", "the hub has no repository 'a/b'; "),
        ("RevisionNotFoundError", "the hub repository 'a/b' has no revision 'v9'; "),
        ("RemoteEntryNotFoundError", "the hub repository 'a/b' has no config.json; "),
        ("OSError", "'a/b' could not be fetched from the hub (disk full); "),
    ],
)
def test_what_the_hub_answers_is_said_in_one_line(error, complaint, monkeypatch):
    import huggingface_hub

    def answer(*arguments: object, **options: object) -> str:
        if error == "OSError":
            raise OSError("disk full\nmore")
        kind = getattr(huggingface_hub.errors, error)
        raise kind.__new__(kind)

    monkeypatch.setattr(sources, "_hub_answers", lambda: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", answer)
    assert message_of("a/b", revision="v9").startswith(complaint)
