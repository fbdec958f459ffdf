"""A sparse checkpoint is the merged model to the last bit, smaller, and needs no base."""

from __future__ import annotations

import json
import math
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from interop.tiny_exports import LABELS, bits, bits_of, tiny_base, tiny_delta
from supermask import Base, TaskDelta
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, OutputError
from supermask.interop import load_sparse_checkpoint, read_sparse_document, save_checkpoint, save_sparse_checkpoint
from supermask.interop import sparse_checkpoint as module
from supermask.interop.sparse_document import SPARSE_FILE
from tiny_models import ARCHITECTURES, tiny_batch


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def delta(base: Base) -> TaskDelta:
    return tiny_delta(base)


def merged(base: Base, delta: TaskDelta, folder: Path) -> PreTrainedModel:
    """The model by way of the plain checkpoint."""
    return AutoModelForSequenceClassification.from_pretrained(save_checkpoint(base, delta, folder))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_bit_is_that_of_the_merged_model(architecture: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", architecture)
    delta, before = tiny_delta(base), bits(base)
    folder = save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    assert bits(base) == before
    with delta.applied(base.model):
        wanted, logits = bits(base), base.model(**tiny_batch(base.model, labels=False)).logits
    shutil.rmtree(tmp_path / "base")
    loaded = load_sparse_checkpoint(folder)
    assert bits_of(loaded) == wanted
    assert torch.equal(loaded(**tiny_batch(loaded, labels=False)).logits, logits)
    assert bits_of(merged(base, delta, tmp_path / "merged")) == wanted


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("architecture", ["gpt2", "deberta", "t5"])  # the last two keep some tensors in float32
def test_every_dtype(architecture: str, dtype: str, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", architecture, dtype=dtype)
    delta = tiny_delta(base)
    loaded = load_sparse_checkpoint(save_sparse_checkpoint(base, delta, tmp_path / "sparse"))
    with delta.applied(base.model):
        assert bits_of(loaded) == bits(base)
    dtypes = {name: tensor.dtype for name, tensor in base.model.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in loaded.state_dict().items()} == dtypes


def test_folder_holds_tokenizer_and_configuration_of_the_task(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    folder = save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    loaded = load_sparse_checkpoint(str(folder))
    assert [loaded.config.id2label[index] for index in range(3)] == list(LABELS)
    assert not loaded.training
    assert AutoTokenizer.from_pretrained(folder)("w3 w4")["input_ids"] == base.tokenizer("w3 w4")["input_ids"]
    document = read_sparse_document(folder)
    assert (document.delta, document.base_fingerprint) == (delta.digest, delta.base.digest)
    assert (document.task, document.method, document.base) == (
        delta.task.model_dump(mode="json", exclude_unset=True),
        delta.method.describe(),
        "tiny",
    )


def test_a_supermask_and_a_regression(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", num_labels=1)
    delta = tiny_delta(base, "supermask", sparsity=0.05)
    loaded = load_sparse_checkpoint(save_sparse_checkpoint(base, delta, tmp_path / "sparse"))
    assert loaded.config.problem_type == "regression"
    with delta.applied(base.model):
        assert bits_of(loaded) == bits(base)


def test_shared_tensors_are_stored_once_and_loaded_shared(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "t5")
    folder = save_sparse_checkpoint(base, tiny_delta(base), tmp_path / "sparse")
    shared = [tensor.names for tensor in read_sparse_document(folder).tensors if len(tensor.names) > 1]
    assert shared == [
        tuple(f"transformer.{name}.weight" for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"))
    ]
    parameters = dict(load_sparse_checkpoint(folder).named_parameters(remove_duplicate=False))
    assert len({id(parameters[name]) for name in shared[0]}) == 1


def test_the_global_random_state_is_left_alone(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    folder = save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    torch.manual_seed(7)
    state = torch.get_rng_state()
    load_sparse_checkpoint(folder)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.9])
def test_size_is_that_of_masks_and_kept_values(sparsity: float, base: Base, tmp_path: Path) -> None:
    delta = tiny_delta(base, sparsity=sparsity)
    folder = save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    document = read_sparse_document(folder)
    assert document.nbytes == (folder / SPARSE_FILE).stat().st_size
    # A matrix in which a mask does not pay, one of 64 weights without a zero for example, is stored dense.
    assert delta.zeros - 2 <= document.zeros <= delta.zeros
    assert delta.weights - 64 <= document.weights <= delta.weights
    stored = sum(tensor.nbytes for tensor in document.tensors)
    dense = sum(parameter.numel() * 4 for parameter in base.model.parameters())
    assert document.dense_nbytes == dense + 0
    share = delta.zeros / delta.weights
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    # Masks at the entropy, and kept values raw: values shrink under zstd besides, and each mask has some words extra.
    assert stored <= dense - 4 * delta.zeros + 1.02 * delta.weights * entropy / 8 + 16 * len(document.tensors)
    assert stored >= 0.5 * (dense - 4 * delta.zeros)


def test_smaller_than_the_dense_checkpoint_zipped(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    dense = save_checkpoint(base, delta, tmp_path / "dense") / "model.safetensors"
    sparse = save_sparse_checkpoint(base, delta, tmp_path / "sparse") / SPARSE_FILE
    with zipfile.ZipFile(tmp_path / "dense.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(dense)
    payloads = sum(tensor.nbytes for tensor in read_sparse_document(sparse.parent).tensors)
    # Of a tiny model the header is a good part, so it is left out on the one side and in on the other.
    assert payloads < (tmp_path / "dense.zip").stat().st_size
    assert sparse.stat().st_size < dense.stat().st_size


def test_equal_exports_are_equal_files(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    first, second = (save_sparse_checkpoint(base, delta, tmp_path / name) / SPARSE_FILE for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_nothing_of_this_machine_is_in_the_file(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    folder = save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    assert str(tmp_path.parent).encode() not in (folder / SPARSE_FILE).read_bytes()
    assert "_name_or_path" not in json.loads((folder / "config.json").read_text())


def test_a_delta_that_drops_nothing_is_refused(base: Base, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"method freezing\) drops no weight.*; save the merged checkpoint"):
        save_sparse_checkpoint(base, tiny_delta(base, "freezing"), tmp_path / "sparse")
    assert list(tmp_path.iterdir()) == []


def test_taken_place_and_other_base_are_refused(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        save_sparse_checkpoint(base, delta, tmp_path)
    other = tiny_base(tmp_path / "base")
    with torch.no_grad():
        other.model.bert.pooler.dense.bias[0] += 1
    with pytest.raises(BaseMismatchError):
        save_sparse_checkpoint(other, delta, tmp_path / "sparse")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "note"]


def test_an_interrupted_write_leaves_nothing(
    base: Base, delta: TaskDelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(place: Path, pieces: Iterable[bytes]) -> None:
        place.write_bytes(next(iter(pieces)))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_through", write)
    before = bits(base)
    with pytest.raises(KeyboardInterrupt):
        save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    assert list(tmp_path.iterdir()) == []
    assert bits(base) == before


def test_a_configuration_of_another_model_is_refused_before_it_is_made(
    base: Base, delta: TaskDelta, tmp_path: Path
) -> None:
    folder = save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    config = json.loads((folder / "config.json").read_text())
    huge = {**config, "vocab_size": 2**33}  # a terabyte, if it were allocated
    for changed, words in (
        (huge, r"word_embeddings.weight has shape \(120, 32\) there and \(8589934592, 32\) in the model"),
        ({**config, "num_hidden_layers": 1}, "is no tensor of the model.*and 13 more"),
        ({**config, "num_hidden_layers": 3}, "is missing in the file.*and 13 more"),
        ({**config, "model_type": "roberta"}, "of a BertForSequence.* config.json makes a RobertaForSequence"),
    ):
        (folder / "config.json").write_text(json.dumps(changed))
        with pytest.raises(DeltaFormatError, match=words):
            load_sparse_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "config.json cannot be used"),
        ("{", "config.json cannot be used"),
        ('{"model_type": "alchemy"}', "config.json cannot be used"),
        ('{"model_type": "bert", "hidden_size": 30}', "no BertForSequenceClassification can be made.*30"),
    ],
)
def test_an_unusable_configuration_is_named(
    text: str | None, words: str, base: Base, delta: TaskDelta, tmp_path: Path
) -> None:
    folder = save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    (folder / "config.json").unlink()
    if text is not None:
        (folder / "config.json").write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_sparse_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_a_file_that_splits_a_shared_tensor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_base(tmp_path / "base", "t5")
    shared = module._shared
    monkeypatch.setattr(module, "_shared", lambda tensors: [((name,), tensor) for name, tensor in tensors.items()])
    folder = save_sparse_checkpoint(base, tiny_delta(base), tmp_path / "sparse")
    monkeypatch.setattr(module, "_shared", shared)
    with pytest.raises(DeltaFormatError, match="are one tensor of the model and several in the file"):
        load_sparse_checkpoint(folder)
