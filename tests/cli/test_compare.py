"""`supermask compare`."""

import copy
import csv
import io
from pathlib import Path

import pytest
import torch
import transformers

from supermask import TaskDelta
from supermask.analysis import delta_overlap, distances, expected_distances, uniform_law
from supermask.prediction import stored_base
from tiny_bases import save_tiny_base
from tiny_command import Place, call, refused, said, told
from tiny_hub import connect, running_hub
from tiny_models import tiny_model


@pytest.fixture
def finetuned(tmp_path: Path) -> Path:
    """A classifier made of the tiny base: one matrix moved, one weight zeroed, another head."""
    model = tiny_model("bert")
    with torch.no_grad():
        model.get_parameter("bert.encoder.layer.1.attention.self.value.weight").add_(0.5)
        model.get_parameter("bert.encoder.layer.0.intermediate.dense.weight")[2, 3] = 0.0
    model.save_pretrained(tmp_path / "finetuned", max_shard_size="40KB")
    return tmp_path / "finetuned"


def test_two_checkpoints(place: Place, finetuned: Path) -> None:
    document = told("compare", place.base, finetuned)
    base, other = (transformers.AutoModel.from_pretrained(folder) for folder in (place.base, finetuned))
    wanted = {one.name: one for one in distances(base, other)}
    assert {row["name"]: row["l1"] for row in document["tensors"]} == {n: one.l1 for n, one in wanted.items()}
    by_role = {row["role"]: row for row in document["by_role"]}
    value = wanted["encoder.layer.1.attention.self.value.weight"]
    assert by_role["value"]["l1"] == [0.0, value.l1 / 2, value.l1]
    assert by_role["value"]["changed"] == 32 * 32
    assert (by_role["ffn_in"]["changed"], by_role["ffn_in"]["zeroed"]) == (1, 1)
    by_block = {row["block"]: row["changed"] for row in document["by_block"]}
    assert by_block == {None: 0, 0: 1, 1: 32 * 32}
    assert sorted(document["only_in_finetuned"]) == ["classifier.bias", "classifier.weight"]
    assert document["dtypes"] == {"base": ["float32"], "finetuned": ["float32"]}
    uniform = expected_distances((32, 32), uniform_law(32**-0.5))
    row = next(row for row in document["random"] if row["shape"] == [32, 32] and row["law"]["kind"] == "uniform")
    assert row["expected"]["l1"] == uniform.l1


def test_the_tables_fit_a_terminal(place: Place, finetuned: Path) -> None:
    text = said("compare", place.base, finetuned)
    lines = text.splitlines()
    assert "\x1b" not in text and "…" not in text
    tables = [line for line in lines if line.startswith(" ")]
    assert max(len(line.rstrip()) for line in tables) <= 80
    value = next(line.split() for line in tables if line.split()[:1] == ["value"])
    assert value[1:4] == ["2", "50.00", "0.00"]
    shown = next(line.split() for line in tables if line.split()[:3] == ["32", "x", "32"])
    assert shown[-1] == "0.500"
    assert any(line.startswith("only in the fine-tuned: classifier.") for line in lines)
    assert [line for line in tables if line.split()[:1] == ["all"]]


def test_a_file_of_every_tensor(place: Place, finetuned: Path, tmp_path: Path) -> None:
    outcome = call("compare", place.base, finetuned, "--csv", tmp_path / "new" / "far.csv")
    assert outcome.stdout.splitlines()[-1] == f"every tensor: {tmp_path / 'new' / 'far.csv'}"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "new" / "far.csv").read_text())))
    document = told("compare", place.base, finetuned)
    assert [row["name"] for row in rows] == [tensor["name"] for tensor in document["tensors"]]
    for row, tensor in zip(rows, document["tensors"], strict=True):
        assert float(row["l1"]) == tensor["l1"] and int(row["changed"]) == tensor["changed"]
        assert row["largest_column_sum"] == ("" if len(tensor["shape"]) == 1 else str(tensor["largest_column_sum"]))
        assert row["shape"] == "x".join(map(str, tensor["shape"]))


def test_other_dtypes_and_rows_are_told(place: Place, tmp_path: Path) -> None:
    model = tiny_model("bert").to(torch.float16)
    model.resize_token_embeddings(model.config.vocab_size + 8, mean_resizing=False)
    model.save_pretrained(tmp_path / "other")
    text = call("compare", place.base, tmp_path / "other").stdout
    assert "dtypes differ" in text
    assert "rows of other numbers, compared on those that both have: embeddings.word_embeddings.weight" in text


def test_a_base_and_a_delta_of_it(place: Place, trained: Path) -> None:
    document = told("compare", place.base, trained)
    delta = TaskDelta.load(trained / "delta")
    model = stored_base(delta.document, None, None, None).model
    before = copy.deepcopy(model)
    with delta.applied(model):
        wanted = {one.name: one for one in distances(before, model)}
    (found,) = document["deltas"]
    assert found["sparsity"] == delta.sparsity
    for row in found["tensors"]:
        one = wanted[row["name"]]
        assert (row["changed"], row["zeroed"]) == (one.changed, one.zeroed)
        assert row["l1"] == pytest.approx(one.l1) and row["angular"] == pytest.approx(one.angular)
    moved = {name for name, one in wanted.items() if one.changed and not name.startswith("classifier.")}
    assert moved <= {row["name"] for row in found["tensors"]}
    assert "shared_zeros" not in document
    text = call("compare", place.base, trained).stdout
    assert f"{100 * delta.sparsity:.2f} % of its masked weights zero" in text


def test_two_deltas_of_one_base(place: Place, trained: Path, regression: Path) -> None:
    arguments = ("compare", trained, regression, "--base", place.base)
    document = told(*arguments)
    first, second = (TaskDelta.load(run / "delta") for run in (trained, regression))
    model = stored_base(first.document, None, None, None).model
    overlap = delta_overlap(first, second, base=model)
    assert [one["name"] for one in document["deltas"]] == [str(trained), str(regression)]
    assert document["shared_zeros"]["total"]["shared"] == overlap.total.shared
    assert document["significance"]["z"] == overlap.total.z
    text = call(*arguments).stdout
    assert "zeros of the first, of the second, and shared, against chance" in text
    assert "probability by chance of as many: 10^" in text


def test_deltas_that_mask_nothing(place: Place, paired: Path, trained: Path) -> None:
    text = call("compare", place.base, paired).stdout  # trains its head alone
    assert "nothing but the head differs from the base" in text
    text = call("compare", trained, paired).stdout
    assert "no tensor is masked by both" in text
    assert told("compare", trained, paired)["significance"] is None


def test_what_cannot_be_compared_is_refused(place: Place, trained: Path, finetuned: Path, tmp_path: Path) -> None:
    roberta = save_tiny_base(tmp_path / "roberta", "roberta")
    refused(call("compare", place.base, roberta), "type bert", "type roberta")
    refused(call("compare", place.base, tmp_path / "nowhere"), "there is no folder")
    refused(call("compare", "minilm-l7", finetuned), "did you mean minilm-l6?")
    refused(call("compare", trained, finetuned), "put the base first", f"compare {finetuned} {trained}")
    refused(call("compare", place.other_base, trained), "is not the base")
    refused(call("compare", place.base, finetuned, "--base", place.base), "--base", "no effect beside two models")
    refused(call("compare", place.base, trained, "--base", place.base), "--base", "a base that stands first")
    refused(call("compare", place.base, trained, "--finetuned-revision", "main"), "no effect beside a delta")
    refused(call("compare", place.base, finetuned, "--revision", "main"), "revision", "is not on the hub")
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    refused(call("compare", place.base, finetuned, "--csv", blocked / "far.csv"), "cannot be written")


def test_a_file_of_weights_is_no_delta_and_a_file_of_a_delta_is(place: Place, trained: Path, finetuned: Path) -> None:
    weights = place.base / "model.safetensors"
    assert told("compare", weights, finetuned)["architecture_known"]
    delta = trained / "delta" / "delta.safetensors"
    assert told("compare", place.base, delta)["deltas"]


def test_a_model_on_the_hub(place: Place, finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: path.read_bytes() for path in finetuned.iterdir()}
    with running_hub() as hub:
        connect(hub, tmp_path / "client", monkeypatch)
        hub.add("me/finetuned", {**files, "pytorch_model.bin": b"never fetched"})
        there = told("compare", place.base, "me/finetuned")
        here = told("compare", place.base, finetuned)
        assert there["tensors"] == here["tensors"]
    assert not list((tmp_path / "client").rglob("pytorch_model.bin"))
