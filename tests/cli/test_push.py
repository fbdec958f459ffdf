"""`supermask push`, and a hub id wherever a verb takes a delta."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import supermask as library
from supermask import TaskDelta
from tiny_command import Place, call, refused, said, told
from tiny_hub import WRITER, TinyHub, connect, running_hub

# The client's own, whenever it uploads by the LFS protocol.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyHub]:
    import huggingface_hub

    with running_hub() as hub:
        connect(hub, tmp_path / "client", monkeypatch)
        monkeypatch.setenv("HF_TOKEN", WRITER)
        yield hub
    huggingface_hub.close_session()


def test_push_says_where_it_went(trained: Path, hub: TinyHub) -> None:
    text = said("push", trained, "me/new", "--private", "--message", "First", "--license", "mit")
    repository = hub.repositories["me/new"]
    commit = repository.refs["main"]
    size = (trained / "delta" / "delta.safetensors").stat().st_size
    assert text.splitlines() == [
        f"own-data, {size:,} bytes ({size / 1024:.3g} KiB), pushed to me/new",
        f"{hub.endpoint}/me/new/commit/{commit}",
    ]
    assert repository.private
    assert repository.messages[commit] == "First"
    assert b"license: mit" in repository.commits[commit]["README.md"]


def test_push_as_json(trained: Path, hub: TinyHub) -> None:
    delta = TaskDelta.load(trained / "delta")
    options = ("--subfolder", "mine", "--revision", "next")
    document = told("push", trained, "many", *options)
    commit = hub.repositories["me/many"].refs["next"]
    assert document == {
        "repository": "me/many",
        "subfolder": "mine",
        "commit": commit,
        "url": f"{hub.endpoint}/me/many/commit/{commit}",
        "pull_request": None,
        "delta": delta.digest,
        "bytes": delta.nbytes_on_disk(),
    }
    assert library.from_pretrained("me/many@next/mine") == delta
    hub.add("you/theirs")
    outcome = call("push", trained, "you/theirs", "--create-pr")
    assert outcome.stdout.splitlines()[-1] == f"{hub.endpoint}/you/theirs/discussions/1"


def test_every_verb_takes_a_hub_id(trained: Path, place: Place, hub: TinyHub, tmp_path: Path) -> None:
    library.push_to_hub(TaskDelta.load(trained / "delta"), "me/many", subfolder="mine")
    base = ("--base", place.base)
    for given in ("hf://me/many/mine", "me/many@main/mine"):
        outcome = call("predict", given, *base, "--sentence", "w1 w2", "--cpu")
        assert outcome.exit_code == 0, outcome.stderr
        assert outcome.stdout == call("predict", trained, *base, "--sentence", "w1 w2", "--cpu").stdout
    digest = TaskDelta.load(trained / "delta").digest
    assert told("inspect", "me/many@main/mine")["digest"] == digest
    evaluated = call("evaluate", "me/many@main/mine", *base, "--file", place.dev, "--cpu", "--json")
    assert json.loads(evaluated.stdout)["delta"] == digest
    applied = call("apply", "me/many@main/mine", *base, "--output", tmp_path / "merged", "--json")
    assert json.loads(applied.stdout)["delta"] == digest
    pushed = call("push", "hf://me/many/mine", "me/copy", "--json")
    assert json.loads(pushed.stdout)["delta"] == digest


def test_the_snippet_of_the_card_runs(
    trained: Path, place: Place, hub: TinyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("push", trained, "me/new").exit_code == 0
    repository = hub.repositories["me/new"]
    card = repository.commits[repository.refs["main"]]["README.md"].decode()
    (code,) = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert f'"PATH/TO/{place.base.name}"' in code
    apply, remove = [line for line in code.splitlines() if line.startswith("delta.")]
    names: dict[str, object] = {}
    exec(code.replace(f"PATH/TO/{place.base.name}", str(place.base)).partition("delta.apply_")[0], names)
    model = names["base"].model  # type: ignore[attr-defined]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exec(apply, names)
    assert not all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    exec(remove, names)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    (command,) = re.findall(r"```console\n\$ supermask (.*?) --sentence", card)
    predicted = call(*command.split(), "--sentence", "w1 w2", "--base", place.base, "--cpu")
    assert predicted.exit_code == 0, predicted.stderr
    assert library.TaskDelta.load(trained / "delta").is_applied(model) is False


def test_what_is_refused(trained: Path, hub: TinyHub, tmp_path: Path) -> None:
    assert call("push", trained, "me/open").exit_code == 0
    refused(call("push", trained, "me/open", "--private"), "'me/open' is public", "nothing was pushed")
    refused(call("push", trained, "you/theirs"), "may not write there")
    refused(call("push", trained, "not a name"), "no name of a repository")
    refused(call("push", tmp_path / "nowhere", "me/new"), "there is no file or folder")
    refused(call("inspect", "me/nope"), "has no such repository")
    refused(call("inspect", "me/open@v9"), "no revision 'v9'")
