"""`supermask store`."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from supermask import TaskDelta
from supermask.deltas import KeepMask, MethodRecord, SparseValues, TaskRecord, TrainingRecord
from supermask.deltas.store import DeltaStore
from tiny_command import Place, call, refused, said, told
from tiny_hub import connect, running_hub


@pytest.fixture(scope="session")
def stocked(trained: Path, paired: Path, regression: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three deltas over the tiny base; not to be changed."""
    folder = tmp_path_factory.mktemp("stores") / "store"
    store = DeltaStore(folder)
    for name, run in (("mask", trained), ("head", paired), ("pruned", regression)):
        store.add(run / "delta", name=name)
    return folder


@pytest.fixture
def store(stocked: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(stocked, tmp_path / "store"))


def damage(folder: Path) -> None:
    content = bytearray((folder / "delta.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "delta.safetensors").write_bytes(content)


def of_another_base(run: Path, folder: Path) -> None:
    delta = TaskDelta.load(run / "delta")
    base = delta.document.base.model_copy(update={"digest": "f" * 64, "name": "elsewhere"})
    TaskDelta(delta.document.model_copy(update={"base": base}), delta.payloads).save(folder)


# add, remove.


def test_a_run_is_added_under_its_tasks_name(trained: Path, tmp_path: Path) -> None:
    text = said("store", "add", tmp_path / "new", trained)
    delta = TaskDelta.load(trained / "delta")
    assert text.startswith(f"own-data added to {tmp_path / 'new'}/: ")
    assert f"({delta.zeros:,} of {delta.weights:,} weights)" in text
    assert DeltaStore(tmp_path / "new")["own-data"] == delta
    named = call("store", "add", tmp_path / "new", trained / "delta", "--name", "again", "--json")
    assert json.loads(named.stdout)["added"]["digest"] == delta.digest


def test_adding_is_refused(store: Path, trained: Path, paired: Path, tmp_path: Path) -> None:
    refused(call("store", "add", store, trained, "--name", "mask"), "has a delta 'mask' already", "overwrite")
    refused(call("store", "add", store, trained, "--name", "../x"), "'../x' is no name for a delta")
    refused(call("store", "add", store, tmp_path / "none"), "there is no file or folder")
    refused(call("store", "add", trained, paired), "is no store and not empty")
    of_another_base(trained, tmp_path / "other")
    line = refused(call("store", "add", store, tmp_path / "other"), "'elsewhere'", "f" * 16)
    assert DeltaStore(store).base.digest[:16] in line
    assert call("store", "add", store, paired, "--name", "mask", "--overwrite").exit_code == 0
    assert DeltaStore(store)["mask"] == TaskDelta.load(paired / "delta")


def test_removing(store: Path) -> None:
    assert call("store", "remove", store, "head").stdout == f"head removed from {store}/, which has 2 more\n"
    refused(call("store", "remove", store, "hed"), "no delta 'hed'", "it has mask, pruned")
    document = told("store", "remove", store, "mask")
    assert document == {"store": str(store), "removed": "mask", "deltas": ["pruned"]}


# list.


def test_the_list_says_what_the_deltas_say(stocked: Path, regression: Path, place: Place) -> None:
    document = told("store", "list", stocked)
    assert document["base"]["name"] == str(place.base)
    assert document["faults"] == document["not_deltas"] == []
    assert [row["name"] for row in document["deltas"]] == ["head", "mask", "pruned"]
    pruned, delta = document["deltas"][2], TaskDelta.load(regression / "delta")
    assert pruned["digest"] == delta.digest
    assert (pruned["zeros"], pruned["masked_weights"]) == (delta.zeros, delta.weights) == (8704, 17408)
    assert pruned["bytes"] == (regression / "delta" / "delta.safetensors").stat().st_size
    assert (pruned["task"], pruned["method"], pruned["scores"]) == ("own-data", "pruning", [])
    head = document["deltas"][0]
    assert [(score["split"], score["metric"]) for score in head["scores"]] == [("validation", "accuracy")]


def test_the_table_of_a_list(store: Path) -> None:
    (store / "note.txt").write_text("")
    (store / "bad").mkdir()
    (store / "bad" / "delta.safetensors").write_bytes(b"")
    text = said("store", "list", store)
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0].startswith(f"{store}: 3 deltas over ")
    row = next(line for line in lines if line.strip().startswith("pruned")).split()
    size = (store / "pruned" / "delta.safetensors").stat().st_size
    assert row[:5] == ["pruned", "own-data", "pruning", "50.00", f"{size:,}"]
    assert next(line for line in lines if "head" in line).split()[3] == "–"
    assert lines[-2].startswith("fault: bad: ") and "truncated" in lines[-2]
    assert lines[-1] == "not a delta: note.txt: is no folder, and each delta has one"


def test_what_files_say_cannot_steer_the_terminal(store: Path, trained: Path) -> None:
    delta = TaskDelta.load(trained / "delta")
    told = {  # and not the task's kind, so the base has another's head
        "task": TaskRecord(name="a\x1b[2J\nb", label_names=("\x1b]0;x\x07",)),
        "training": TrainingRecord(scores={"dev": {"[red]f1": 1e308}}, notes={"\x9b": "\x07"}),
        "method": MethodRecord.model_validate({"kind": "[bold]", "\x1b[31m": "\x1b]0;x\x07"}),
    }
    document = delta.document.model_copy(update=told)
    TaskDelta(document, delta.payloads).save(store / "evil")
    (store / "\x1b[2J").write_text("")
    for arguments in (("list", store), ("list", store, "--json"), ("diff", store, "evil", "mask")):
        outcome = call("store", *arguments)
        assert outcome.exit_code == 0, outcome.stderr
        assert all(line.isprintable() for line in outcome.stdout.splitlines())
    table = call("store", "list", store).stdout
    assert "a?[2J?b" in table and "[bold]" in table and "dev [red]f1" in table and "mask" in table


def test_a_long_name_is_not_cut(store: Path, trained: Path) -> None:
    assert call("store", "add", store, trained, "--name", "x" * 100).exit_code == 0
    for arguments in (("list", store), ("verify", store)):
        outcome = call("store", *arguments)
        assert "x" * 100 in outcome.stdout and "…" not in outcome.stdout


def test_what_is_no_store_is_refused(tmp_path: Path, trained: Path) -> None:
    for arguments in (("list",), ("verify",), ("remove", "x"), ("diff", "x", "y")):
        verb, *names = arguments
        refused(call("store", verb, tmp_path, *names), "no store of deltas", "add a delta")
    (tmp_path / "store.json").write_text("{")
    refused(call("store", "list", tmp_path), "store.json", "Invalid JSON")


# verify.


def test_verifying_checksums_and_everything(stocked: Path, place: Place) -> None:
    for more in ((), ("--base", place.base)):
        outcome = call("store", "verify", stocked, *more)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert outcome.stdout.count("intact") == 3
        assert ("everything decoded" in outcome.stdout) == bool(more)
        document = told("store", "verify", stocked, *more)
        assert document["intact"] == ["head", "mask", "pruned"]
        assert document["decoded"] == bool(more)


def test_faults_are_all_told_and_the_exit_code_is_1(store: Path, trained: Path, place: Place) -> None:
    damage(store / "head")
    of_another_base(trained, store / "other")
    delta = TaskDelta.load(trained / "delta")
    changes = tuple(
        record.model_copy(update={"zeros": record.zeros + 1}) if record.zeros is not None else record
        for record in delta.document.changes
    )
    TaskDelta(delta.document.model_copy(update={"changes": changes}), delta.payloads).save(store / "wrong")
    compared = call("store", "verify", store)
    assert compared.exit_code == 1
    assert compared.stderr == "error: 2 faults in 2 of 5 deltas\n"
    assert [line.split(":")[1].strip() for line in compared.stdout.splitlines() if line.startswith("fault")] == [
        "head",
        "other",
    ]
    decoded = call("store", "verify", store, "--base", place.base, "--json")
    assert decoded.exit_code == 1
    document = json.loads(decoded.stdout)
    assert document["intact"] == ["mask", "pruned"]
    masked = sum(record.zeros is not None for record in delta.document.changes)
    assert [fault["name"] for fault in document["faults"]] == ["head", "other", *["wrong"] * masked]


def test_verifying_against_another_base_is_refused(stocked: Path, place: Place) -> None:
    refused(call("store", "verify", stocked, "--base", place.other_base), "is not the base", "1 of")
    refused(call("store", "verify", stocked, "--revision", "x"), "--revision has no effect", "--base")


# diff.


def test_shared_zeros_are_those_of_the_masks(stocked: Path, trained: Path, regression: Path, place: Place) -> None:
    document = told("store", "diff", stocked, "mask", "pruned", "--by", "tensor", "--base", place.base)
    import supermask as library

    base = library.load_base(str(place.base), num_labels=2).model
    first, second = (TaskDelta.load(run / "delta").changes_for(base) for run in (trained, regression))
    shared, expected = 0, 0.0
    for row in document["zeros"]:
        ours, theirs = first[row["tensor"]], second[row["tensor"]]
        assert isinstance(ours, KeepMask) and isinstance(theirs, SparseValues)
        a, b = ~ours.keep.numpy(), ~theirs.keep.numpy()
        assert row["shared"] == np.logical_and(a, b).sum()
        assert row["expected"] == pytest.approx(a.mean() * b.sum())
        shared, expected = shared + row["shared"], expected + row["expected"]
    assert len(document["zeros"]) > 10
    assert (document["total"]["shared"], document["total"]["expected"]) == (shared, pytest.approx(expected))
    assert document["total"]["ratio"] == pytest.approx(shared / expected)
    values = set(document["only_second"])
    assert values and values <= {record.name for record in TaskDelta.load(regression / "delta").document.changes}


@pytest.mark.parametrize(("by", "first_row"), [("role", "query"), ("block", "0"), ("tensor", "bert.encoder.layer.0")])
def test_the_table_of_a_diff(stocked: Path, by: str, first_row: str) -> None:
    text = said("store", "diff", stocked, "mask", "pruned", "--by", by)
    assert "…" not in text and "\x1b" not in text
    lines = [line.strip() for line in text.splitlines()]
    assert lines[:2] == [
        "first: mask (task own-data, method supermask)",
        "second: pruned (task own-data, method pruning)",
    ]
    rows = told("store", "diff", stocked, "mask", "pruned", "--by", by)
    assert rows["zeros"][0][by].startswith(first_row)
    shown = next(line for line in lines if line.startswith("all "))
    total = rows["total"]
    assert shown.split()[1:4] == [f"{total[key]:,}" for key in ("first_zeros", "second_zeros", "shared")]
    assert shown.split()[-1] == f"{total['z']:.1f}"
    if by != "tensor":
        assert max(map(len, text.split("zeros: of")[0].splitlines())) <= 80
    assert any(line.startswith("only the second changes: ") for line in lines)


def test_deltas_that_share_no_tensor(stocked: Path) -> None:
    outcome = call("store", "diff", stocked, "head", "mask")
    assert "only the second changes: " in outcome.stdout
    assert "no tensor outside the heads is changed by both" in outcome.stdout
    total = told("store", "diff", stocked, "head", "mask")["total"]
    assert (total["shared"], total["ratio"], total["jaccard"], total["z"]) == (0, None, None, None)


def test_values_in_both(stocked: Path) -> None:
    outcome = call("store", "diff", stocked, "pruned", "pruned")
    assert "values in both" in outcome.stdout
    values = told("store", "diff", stocked, "pruned", "pruned")["values"]
    assert values and all(value["l1"] == 0.0 for value in values)


def test_the_base_is_loaded_where_it_is_needed(stocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    from supermask.prediction import stored

    real = stored.load_base
    monkeypatch.setattr(stored, "load_base", lambda *given, **more: loaded.append(given) or real(*given, **more))
    for needed in (True, False):
        loaded.clear()
        with monkeypatch.context() as patched:
            patched.setattr(TaskDelta, "needs_base", property(lambda delta, needed=needed: needed))
            assert call("store", "diff", stocked, "head", "head").exit_code == 0
        assert len(loaded) == needed


def test_diffs_that_are_refused(stocked: Path, place: Place) -> None:
    refused(call("store", "diff", stocked, "mask", "prund"), "no delta 'prund'", "did you mean pruned?")
    line = refused(call("store", "diff", stocked, "mask", "head", "--by", "layer"), "--by", "'layer'", "'role'")
    assert "Value error" not in line
    refused(call("store", "diff", stocked, "mask", "head", "--base", place.other_base), "is not the base")


# On the hub.


def test_a_store_on_the_hub_is_read_as_a_folder_is(
    stocked: Path, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {str(path.relative_to(stocked)): path.read_bytes() for path in stocked.rglob("*") if path.is_file()}
    with running_hub() as hub:
        connect(hub, tmp_path / "client", monkeypatch)
        hub.add("me/deltas", {**files, "README.md": b"# deltas"})
        for verb, *more in (("list",), ("verify", "--base", place.base), ("diff", "mask", "pruned")):
            there, here = (told("store", verb, store, *more) for store in ("me/deltas", stocked))
            assert there.pop("store") == "me/deltas" and here.pop("store") == str(stocked)
            for row in (*there.get("deltas", ()), *here.get("deltas", ())):
                row.pop("path")
            assert there == here
        refused(call("store", "list", "me/nothing"), "me/nothing")
    getattr(huggingface_hub, "close_session", lambda: None)()
