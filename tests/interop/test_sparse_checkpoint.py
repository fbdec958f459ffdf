"""A sparse checkpoint is the merged model to the last bit, smaller, and needs no base; a damaged one is refused."""

import json
import math
import random
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from deltas import reference_format
from interop.golden.make_golden import tensors_digest
from interop.tiny_exports import LABELS, bits, bits_of, tiny_base, tiny_delta
from supermask import Base, TaskDelta
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, OutputError
from supermask.interop import load_sparse_checkpoint, read_sparse_document, save_checkpoint, save_sparse_checkpoint
from supermask.interop import sparse_checkpoint as module
from supermask.interop.sparse_checkpoint import SPARSE_FILE
from tiny_models import ARCHITECTURES, tiny_batch

GOLDEN = Path(__file__).parent / "golden" / "sparse_v1"
NAMED = "supermask-sparse-checkpoint 1"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def delta(base: Base) -> TaskDelta:
    return tiny_delta(base)


@pytest.fixture(scope="module")
def written(base: Base, delta: TaskDelta, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sparse_checkpoint(base, delta, tmp_path_factory.mktemp("sparse") / "model")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(written, tmp_path / "model")


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


@pytest.mark.parametrize(
    ("architecture", "dtype", "kind", "labels"),
    [
        ("gpt2", "float16", "pruning", 3),
        ("gpt2", "bfloat16", "pruning", 3),
        ("deberta", "float16", "pruning", 3),
        ("deberta", "bfloat16", "pruning", 3),  # this and the next keep some tensors in float32
        ("t5", "float16", "pruning", 3),
        ("t5", "bfloat16", "pruning", 3),
        ("bert", "float32", "supermask", 1),
    ],
)
def test_every_dtype_and_kind(architecture: str, dtype: str, kind: str, labels: int, tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", architecture, dtype=dtype, num_labels=labels)
    delta = tiny_delta(base, kind, sparsity=0.5 if kind == "pruning" else 0.05)
    loaded = load_sparse_checkpoint(save_sparse_checkpoint(base, delta, tmp_path / "sparse"))
    with delta.applied(base.model):
        assert bits_of(loaded) == bits(base)
    dtypes = {name: tensor.dtype for name, tensor in base.model.state_dict().items()}
    assert {name: tensor.dtype for name, tensor in loaded.state_dict().items()} == dtypes
    assert (loaded.config.problem_type == "regression") is (labels == 1)


def test_folder_holds_tokenizer_and_configuration_of_the_task(base: Base, delta: TaskDelta, written: Path) -> None:
    torch.manual_seed(7)
    state = torch.get_rng_state()
    loaded = load_sparse_checkpoint(str(written))
    assert torch.equal(torch.get_rng_state(), state)
    assert [loaded.config.id2label[index] for index in range(3)] == list(LABELS)
    assert not loaded.training
    assert AutoTokenizer.from_pretrained(written)("w3 w4")["input_ids"] == base.tokenizer("w3 w4")["input_ids"]
    assert "_name_or_path" not in json.loads((written / "config.json").read_text())
    document = read_sparse_document(written)
    assert (document.delta, document.task, document.method) == (delta.digest, delta.task, delta.method)
    assert (document.base.name, document.base.digest, document.base.tensors) == ("tiny", delta.base.digest, {})
    assert document.base.architecture == "BertForSequenceClassification"


def test_shared_tensors_are_stored_once_and_loaded_shared(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", "t5")
    folder = save_sparse_checkpoint(base, tiny_delta(base), tmp_path / "sparse")
    shared = read_sparse_document(folder).ties
    assert shared == (
        tuple(f"transformer.{name}.weight" for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens")),
    )
    parameters = dict(load_sparse_checkpoint(folder).named_parameters(remove_duplicate=False))
    assert len({id(parameters[name]) for name in shared[0]}) == 1


@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.9])
def test_size_is_that_of_masks_and_kept_values(sparsity: float, base: Base, tmp_path: Path) -> None:
    delta = tiny_delta(base, sparsity=sparsity)
    folder = save_sparse_checkpoint(base, delta, tmp_path / "sparse")
    document = read_sparse_document(folder)
    assert document.nbytes == (folder / SPARSE_FILE).stat().st_size
    # A matrix in which a mask does not pay, one of 64 weights without a zero for example, is stored dense.
    assert delta.zeros - 2 <= document.zeros <= delta.zeros
    assert delta.weights - 64 <= document.weights <= delta.weights
    stored = sum(change.nbytes for change in document.changes)
    dense = sum(parameter.numel() * 4 for parameter in base.model.parameters())
    assert document.dense_nbytes == dense
    share = delta.zeros / delta.weights
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    # Masks at the entropy, and kept values raw: values shrink under zstd besides, and each mask has some words extra.
    assert stored <= dense - 4 * delta.zeros + 1.02 * delta.weights * entropy / 8 + 16 * len(document.changes)
    assert stored >= 0.5 * (dense - 4 * delta.zeros)


def test_smaller_than_the_dense_checkpoint_zipped(base: Base, delta: TaskDelta, written: Path, tmp_path: Path) -> None:
    dense = save_checkpoint(base, delta, tmp_path / "dense") / "model.safetensors"
    with zipfile.ZipFile(tmp_path / "dense.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(dense)
    assert (written / SPARSE_FILE).stat().st_size < (tmp_path / "dense.zip").stat().st_size


def test_equal_exports_are_equal_files_with_nothing_of_this_machine(
    base: Base, delta: TaskDelta, written: Path, tmp_path: Path
) -> None:
    again = save_sparse_checkpoint(base, delta, tmp_path / "again")
    assert (written / SPARSE_FILE).read_bytes() == (again / SPARSE_FILE).read_bytes()
    text = reference_format.split((again / SPARSE_FILE).read_bytes()).text
    assert str(tmp_path.parent) not in text and "/" not in text


def test_what_cannot_be_saved_is_refused(base: Base, delta: TaskDelta, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"method freezing\) drops no weight.*; save the merged checkpoint"):
        save_sparse_checkpoint(base, tiny_delta(base, "freezing"), tmp_path / "sparse")
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


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (None, ConfigurationError, "config.json cannot be used"),
        ("{", ConfigurationError, "config.json cannot be used"),
        ('{"model_type": "alchemy"}', ConfigurationError, "config.json cannot be used"),
        ({"hidden_size": 30}, ConfigurationError, "no BertForSequenceClassification can be made.*30"),
        # a terabyte, if it were allocated
        ({"vocab_size": 2**33}, DeltaFormatError, r"word_emb.* \(120, 32\) there and \(8589934592, 32\) in the model"),
        ({"num_hidden_layers": 1}, DeltaFormatError, "is no tensor of the model.*and 13 more"),
        ({"num_hidden_layers": 3}, DeltaFormatError, "is missing in the file.*and 13 more"),
        ({"model_type": "roberta"}, DeltaFormatError, "of a BertForSequence.* config.json makes a RobertaForSequence"),
    ],
)
def test_a_configuration_of_another_model_or_none_is_refused(
    change: Any, error: type[Exception], words: str, folder: Path
) -> None:
    place = folder / "config.json"
    whole = json.loads(place.read_text())
    place.unlink()
    if change is not None:
        place.write_text(change if isinstance(change, str) else json.dumps({**whole, **change}))
    with pytest.raises(error, match=words) as caught:
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


# The file: read by its page alone, readable for ever, and refused when anything in it is off.


def test_golden_file_of_version_1_is_read_to_the_bit() -> None:
    assert tensors_digest(load_sparse_checkpoint(GOLDEN)) == (GOLDEN / "sha256").read_text().strip()
    assert read_sparse_document(GOLDEN).nbytes == (GOLDEN / SPARSE_FILE).stat().st_size


@pytest.mark.parametrize("place", ["golden", "written"])
def test_by_the_page_alone(place: str, written: Path) -> None:
    folder = GOLDEN if place == "golden" else written
    data, tensors = (folder / SPARSE_FILE).read_bytes(), load_sparse_checkpoint(folder).state_dict()
    ties = {group[0]: group for group in reference_format.split(data).document["ties"]}
    for first, (keep, values) in reference_format.read(data, {}, named=NAMED).items():
        for name in ties.get(first, [first]):
            tensor = tensors.pop(name)
            kept = torch.ones(tensor.shape, dtype=torch.bool) if keep is None else torch.tensor(keep)
            kept = kept.reshape(tensor.shape)
            assert reference_format.raw(tensor[kept]) == values
            assert not any(reference_format.raw(tensor[~kept]))
    assert not tensors


def test_every_damage_is_named(folder: Path) -> None:
    whole, generator = (folder / SPARSE_FILE).read_bytes(), random.Random(0)
    payloads = len(whole) - len(reference_format.split(whole).payloads)
    for trial in range(60):
        content = bytearray(whole)
        match trial % 4:
            case 0:  # a flipped bit in the header
                content[generator.randrange(300)] ^= 1 << generator.randrange(7)
            case 1:  # a flipped bit among the payloads
                content[generator.randrange(payloads, len(content))] ^= 1 << generator.randrange(8)
            case 2:
                content = content[: generator.randrange(len(content))]
            case 3:
                content += bytes(generator.randrange(1, 20))
        (folder / SPARSE_FILE).write_bytes(content)
        words = "do not have the hash that the document states" if trial % 4 == 1 else ""
        with pytest.raises(DeltaFormatError, match=f"{folder}.*{words}"):
            load_sparse_checkpoint(folder)
        if trial % 4 == 1:
            assert read_sparse_document(folder).zeros > 0  # without the payloads


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object], named: str = NAMED) -> Path:
    """The file with another document and its hash put right, as an attacker would; payloads as they were."""
    file = reference_format.split((folder / SPARSE_FILE).read_bytes())
    document = file.document
    change(document)
    (folder / SPARSE_FILE).write_bytes(reference_format.joined(json.dumps(document), file.payloads, named=named))
    return folder


def masked(document: dict[str, Any]) -> dict[str, Any]:
    """The first tensor with a mask."""
    found: dict[str, Any] = next(change for change in document["changes"] if "zeros" in change)
    return found


WORDS = "bert.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(extra=1), "'extra' is no field"),
        (lambda d: d.pop("delta"), "delta: Field required"),
        (lambda d: d.update(delta="7"), "delta"),
        (lambda d: d["task"].update(kind=7), "task.kind"),
        (lambda d: d.update(changes=[]), "changes"),
        (lambda d: masked(d).update(zeros=0), "does not code 0 zeros|has a model"),
        (lambda d: masked(d).update(zeros=2**40), "zeros among"),
        (lambda d: masked(d).update(zeros=1.5), "zeros"),
        (lambda d: masked(d).pop("zeros"), "must have zeros"),
        (lambda d: masked(d).update(zeros=masked(d)["zeros"] + 1), rf"{SPARSE_FILE}: {WORDS}: .*does not code 1881"),
        (lambda d: masked(d).update(name="a\x1b[2J"), "name"),
        (lambda d: masked(d).update(name=d["changes"][-1]["name"]), "a tensor is named twice"),
        (lambda d: masked(d).update(shape=[2**20, 2**20]), "beyond the format's limit"),
        (lambda d: masked(d).update(shape=[2**17, 2**17], values_coding="shuffle"), "more than 4096 times"),
        (lambda d: masked(d).update(shape=[-1]), "shape"),
        (lambda d: masked(d).update(dtype="object"), "dtype 'object' is none of"),
        (lambda d: masked(d).update(dtype="int8"), "bytes of values do not fit"),
        (lambda d: masked(d).update(values_coding="difference"), "coding"),
        (lambda d: masked(d).update(values_coding="sorted_difference"), "values that need no base|do not fit"),
        (lambda d: masked(d).update(values_nbytes=3), "bytes of values do not fit|bytes, and"),
        (lambda d: masked(d).update(keep_nbytes=3), "bytes, and .* in the document"),
        (lambda d: d["changes"].pop(), "bytes, and .* in the document"),
        (lambda d: d.update(ties=[["a", "b"]]), "a: tied, but no tensor"),
        (lambda d: d.update(ties=[[]]), "a tensor is named twice"),
        (lambda d: d.update(ties=[[WORDS, "a", "a"]]), "a tensor is named twice"),
        (lambda d: d.update(ties=[[WORDS, "a"], [WORDS, "b"]]), "a tensor is named twice"),
        (lambda d: d.update(ties=[[WORDS, d["changes"][-1]["name"]]]), "a tensor is named twice"),
        (lambda d: d.update(ties=[[WORDS, "a"]]), "a is no tensor of the model"),
    ],
)
def test_a_document_that_does_not_hold_together_is_refused(
    change: Callable[[dict[str, Any]], object], words: str, folder: Path
) -> None:
    rewritten(folder, change)
    with pytest.raises(DeltaFormatError, match=words):
        load_sparse_checkpoint(folder)


def test_other_kinds_of_file_and_versions(folder: Path, delta: TaskDelta, tmp_path: Path) -> None:
    file = folder / SPARSE_FILE
    for named, words in (("pt", "not a sparse checkpoint"), (NAMED[:-1] + "2", "version 2 is not.*upgrade supermask")):
        rewritten(folder, lambda document: None, named)
        with pytest.raises(DeltaFormatError, match=words):
            read_sparse_document(folder)
    delta.save(tmp_path / "delta")
    shutil.copy(tmp_path / "delta" / "delta.safetensors", file)
    with pytest.raises(DeltaFormatError, match=r"but not a sparse checkpoint; pass a folder .* save_sparse_checkpoint"):
        load_sparse_checkpoint(folder)
    torch.save({"a": torch.ones(2)}, file)
    with pytest.raises(DeltaFormatError, match=r"not a sparse checkpoint but a zip archive.*never unpickles"):
        load_sparse_checkpoint(folder)
    file.unlink()
    with pytest.raises(DeltaFormatError, match=f"no sparse checkpoint in this folder, it has no {SPARSE_FILE}"):
        load_sparse_checkpoint(folder)
    with pytest.raises(DeltaFormatError, match="no such file"):
        load_sparse_checkpoint(tmp_path / "nowhere")
