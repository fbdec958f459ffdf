import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from deltas.tiny_deltas import tiny_delta, tiny_model
from supermask.deltas import TaskDelta
from supermask.errors import ConfigurationError, MissingDependencyError, OutputError
from supermask.hub import from_pretrained, model_card, push_to_hub, save_pretrained
from tiny_hub import READER, WRITER, TinyHub, environment

# The client's own, whenever it uploads by the LFS protocol.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILES = {"README.md", "delta.safetensors", "delta_config.json"}


@pytest.fixture(scope="module")
def delta() -> TaskDelta:
    return tiny_delta(tiny_model())


@pytest.fixture(autouse=True)
def logged_in(hub: TinyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)


def refusal(delta: TaskDelta, repo_id: str, **options: Any) -> str:
    with pytest.raises(OutputError) as caught:
        push_to_hub(delta, repo_id, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_saved_is_what_save_writes_and_a_card(delta: TaskDelta, tmp_path: Path) -> None:
    delta.save(tmp_path / "plain")
    assert save_pretrained(delta, tmp_path / "new" / "full", license="mit") == tmp_path / "new" / "full"
    files = {path.name: path.read_bytes() for path in (tmp_path / "new" / "full").iterdir()}
    assert files.keys() == FILES
    for path in (tmp_path / "plain").iterdir():
        assert files[path.name] == path.read_bytes()
    card = model_card(delta.document, nbytes=len(files["delta.safetensors"]), license="mit")
    assert files["README.md"].decode() == card
    assert from_pretrained(tmp_path / "new" / "full") == delta


def test_nothing_is_replaced_unasked(delta: TaskDelta, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("written by hand")
    with pytest.raises(OutputError, match=r"README.md exists already; pass overwrite=True"):
        save_pretrained(delta, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "client"] == ["README.md"]
    save_pretrained(delta, tmp_path, overwrite=True)
    assert "as a task delta" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").unlink()
    with pytest.raises(OutputError, match=r"delta.safetensors exists already"):
        save_pretrained(delta, tmp_path)
    assert not (tmp_path / "README.md").exists()


def test_a_card_needs_a_folder_a_licence_a_name_and_a_library(
    delta: TaskDelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="a model card needs a folder"):
        save_pretrained(delta, tmp_path / "delta.safetensors")
    with pytest.raises(ConfigurationError, match=r"'MIT\\nx' is no identifier of a licence"):
        save_pretrained(delta, tmp_path / "new", license="MIT\nx")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for act in (lambda: save_pretrained(delta, tmp_path / "new"), lambda: push_to_hub(delta, "me/new")):
        with pytest.raises(MissingDependencyError, match=r"needs huggingface_hub.*pip install 'supermask\[hub\]'"):
            act()
    assert not (tmp_path / "new").exists()
    delta.save(tmp_path / "new")


def test_pushed_in_one_commit_to_a_branch_that_is_made_or_there_and_read_again(hub: TinyHub, delta: TaskDelta) -> None:
    pushed = push_to_hub(delta, "me/new", license="apache-2.0")
    repository = hub.repositories["me/new"]
    assert (pushed.repo_id, pushed.commit, pushed.subfolder) == ("me/new", repository.refs["main"], None)
    assert pushed.url == f"{hub.endpoint}/me/new/commit/{pushed.commit}"
    assert pushed.pull_request is None
    assert list(repository.messages.values()) == ["initial commit", "Task delta of toy"]
    files = repository.commits[pushed.commit]
    assert files.keys() == FILES | {".gitattributes"}
    card = files["README.md"].decode()
    assert 'from_pretrained("me/new")' in card
    assert "license: apache-2.0" in card
    assert not repository.private
    assert from_pretrained("me/new", revision=pushed.commit) == delta
    assert push_to_hub(delta, "new", license="apache-2.0") == pushed  # a name without owner is one's own
    assert len(repository.commits) == 2
    other = tiny_delta(tiny_model(), task={"name": "other"})
    for _ in range(2):
        push_to_hub(other, "me/new", revision="better")
    assert from_pretrained("me/new") == delta
    assert from_pretrained("me/new@better") == other


def test_a_repository_of_many(hub: TinyHub, delta: TaskDelta) -> None:
    other = tiny_delta(tiny_model(), task={"name": "other"})
    assert push_to_hub(delta, "me/many", subfolder="glue/toy").subfolder == "glue/toy"
    commit = push_to_hub(other, "me/many", subfolder="other", commit_message="One more").commit
    repository = hub.repositories["me/many"]
    assert repository.messages[commit] == "One more"
    both = {f"{folder}/{name}" for folder in ("glue/toy", "other") for name in FILES}
    assert repository.commits[commit].keys() == both | {".gitattributes"}
    card = repository.commits[commit]["glue/toy/README.md"].decode()
    assert 'from_pretrained("hf://me/many/glue/toy")' in card
    assert from_pretrained("hf://me/many/glue/toy") == delta
    assert from_pretrained("me/many", subfolder="other") == other


def test_a_pull_request_where_one_may_not_write(hub: TinyHub, delta: TaskDelta) -> None:
    repository = hub.add("you/theirs", {"README.md": b"# theirs"})
    before = repository.refs["main"]
    pushed = push_to_hub(delta, "you/theirs", create_pr=True)
    assert pushed.pull_request == f"{hub.endpoint}/you/theirs/discussions/1"
    assert repository.refs["main"] == before
    assert from_pretrained("you/theirs", revision="refs/pr/1") == delta
    assert "this token may not write there (403, Forbidden: you must be the owner)" in refusal(delta, "you/theirs")


def test_private_is_private_or_refused(hub: TinyHub, delta: TaskDelta) -> None:
    push_to_hub(delta, "me/secret", private=True)
    assert hub.repositories["me/secret"].private
    push_to_hub(delta, "me/secret", private=True)
    push_to_hub(delta, "me/open", private=False)
    hub.requests.clear()
    for repo_id, private, is_now in (("me/open", True, "public"), ("me/secret", False, "private")):
        with pytest.raises(ConfigurationError, match=rf"'{repo_id}' is {is_now}, and private={private} would not"):
            push_to_hub(delta, repo_id, private=private)
    assert not [path for _, path in hub.requests if "commit" in path or "preupload" in path]


@pytest.mark.parametrize(
    ("repo_id", "options", "complaint"),
    [
        *((name, {}, "no name of a repository") for name in ("a/b/c", "hf://me/a", "me/a@main", "me/a b")),
        ("me/a", {"subfolder": "../a"}, "no folder inside"),
        ("me/a", {"revision": "a b"}, "no branch, tag or commit"),
        ("me/a", {"revision": "0" * 40}, "is a commit, which never changes; name a branch"),
        ("me/a", {"revision": "main", "create_pr": True}, "is against the default branch; leave revision 'main' out"),
        ("me/a", {"license": "Apache License\n"}, "no identifier of a licence"),
    ],
)
def test_arguments_are_checked_before_anything_is_made(
    hub: TinyHub, delta: TaskDelta, repo_id: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        push_to_hub(delta, repo_id, **options)
    assert not hub.requests


def test_what_the_hub_refuses(hub: TinyHub, delta: TaskDelta) -> None:
    wants = (
        f"the delta cannot be pushed to 'me/new': the hub at {hub.endpoint} wants a token, or does not accept this one"
        "; log in with `hf auth login`, or pass a token"
    )
    assert refusal(delta, "me/new", token="hf_stolen") == wants
    assert refusal(delta, "me/new", token=False) == wants
    assert refusal(delta, "me/new", token=READER) == (
        "the delta cannot be pushed to 'me/new': this token may not write there (403, You don't have the rights to "
        "create a model under this namespace); use a token with write access, a name of your own, or create_pr"
    )
    assert "it has no branch 'refs/pr/9'; leave revision out" in refusal(delta, "me/new", revision="refs/pr/9")
    hub.refuse_card_with = '"license" must be one of\nthose that are known'
    complaint = refusal(delta, "me/new", license="own")
    assert f"the hub at {hub.endpoint} answers:" in complaint
    assert '"license" must be one of those that are known' in complaint


def test_faults_of_connection_disk_and_storage(delta: TaskDelta, hub: TinyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise error

    failed = "the delta cannot be pushed to 'me/new'"
    with monkeypatch.context() as patched:
        patched.setattr(huggingface_hub.HfApi, "upload_folder", broken)
        error: Exception = OSError(28, "No space left on device")
        assert refusal(delta, "me/new").startswith(f"{failed}: no space is left on the disk")
        error = RuntimeError("chunk lost")
        assert refusal(delta, "me/new") == f"{failed} (RuntimeError: chunk lost); try again"
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    complaint = refusal(delta, "me/new")
    assert complaint.startswith(f"{failed}: the hub at http://127.0.0.1:9 cannot be reached (")
    assert "refused" in complaint
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal(delta, "me/new") == f"{failed}: HF_HUB_OFFLINE is set; unset it"


ROUND_TRIP = """
import importlib, os, sys, urllib.request
from supermask import TaskDelta, from_pretrained, push_to_hub
commit = push_to_hub(TaskDelta.load(sys.argv[1]), "me/new").commit
print(from_pretrained("me/new", revision=commit).digest)
urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/api/models/me/new").read()  # where being offline begins
os.environ["HF_HUB_OFFLINE"] = "1"
importlib.reload(importlib.import_module("huggingface_hub.constants"))  # as if the process began now
print(from_pretrained("me/new", revision=commit).digest)
try:
    from_pretrained("me/other")
except LookupError as error:
    print(error)
"""


def test_the_whole_way_by_the_documented_environment(hub: TinyHub, delta: TaskDelta, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ROUND_TRIP, str(delta.save(tmp_path / "saved"))]
    variables = {**os.environ, **environment(hub, tmp_path / "home")}
    finished = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert finished.returncode == 0, finished.stderr
    online, offline, refused = finished.stdout.splitlines()
    assert online == offline == delta.digest and "HF_HUB_OFFLINE is set" in refused
    assert hub.requests[-1] == ("GET", "/api/models/me/new")
