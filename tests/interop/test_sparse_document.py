"""The sparse file: read by its page alone, readable for ever, and refused when anything in it is off."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from safetensors.numpy import load_file, save_file

from deltas.coding import reference_masks
from interop.golden.make_golden import tensors_digest
from interop.tiny_exports import bits_of, tiny_base, tiny_delta
from supermask.errors import DeltaFormatError
from supermask.interop import load_sparse_checkpoint, read_sparse_document, save_sparse_checkpoint
from supermask.interop.sparse_document import SPARSE_FILE, open_sparse

GOLDEN = Path(__file__).parent / "golden" / "sparse_v1"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    return save_sparse_checkpoint(base, tiny_delta(base), tmp_path_factory.mktemp("sparse") / "model")


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(written, tmp_path / "model")


def header(file: Path) -> tuple[dict[str, Any], int]:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), 8 + length


def decoded(payload: bytes, size: int, count: int, coding: str) -> list[int]:
    """Values by docs/FORMAT.md, section "Values", for the two codings that need no base."""
    if coding == "raw":
        assert len(payload) == count * size
        return [int.from_bytes(payload[at : at + size], "little") for at in range(0, len(payload), size)]
    assert coding == "shuffle"
    values: list[int] = []
    for start in range(0, count, 2**18):
        length, total = int.from_bytes(payload[:4], "little"), min(2**18, count - start)
        content = zstandard.ZstdDecompressor().decompressobj().decompress(payload[4 : 4 + length])
        assert len(content) == total * size
        values += [sum(content[place * total + i] << 8 * place for place in range(size)) for i in range(total)]
        payload = payload[4 + length :]
    assert not payload
    return values


def test_golden_file_of_version_1_is_read_to_the_bit() -> None:
    assert tensors_digest(load_sparse_checkpoint(GOLDEN)) == (GOLDEN / "sha256").read_text().strip()
    document = read_sparse_document(GOLDEN)
    assert document.version == 1
    assert document.nbytes == (GOLDEN / SPARSE_FILE).stat().st_size


@pytest.mark.parametrize("place", ["golden", "written"])
def test_by_the_page_alone(place: str, written: Path) -> None:
    folder = GOLDEN if place == "golden" else written
    payloads = load_file(folder / SPARSE_FILE)
    metadata = header(folder / SPARSE_FILE)[0]["__metadata__"]
    assert hashlib.sha256(metadata["document"].encode()).hexdigest() == metadata["sha256"]
    found: dict[str, bytes] = {}
    for tensor in json.loads(metadata["document"])["tensors"]:
        name, width = tensor["names"][0], {"float32": 32, "int64": 64}[tensor["dtype"]]
        weights = 1
        for size in tensor["shape"]:
            weights *= size
        kept = weights - tensor.get("zeros", 0)
        payload = payloads.pop(f"{name}:values").tobytes()
        values = iter(decoded(payload, width // 8, kept, tensor["values"]["coding"]))
        keep = [True] * weights
        if "keep" in tensor:
            keep = reference_masks.decode(
                payloads.pop(f"{name}:keep").tobytes(), tensor["shape"], tensor["zeros"], None
            )
        content = b"".join((next(values) if is_kept else 0).to_bytes(width // 8, "little") for is_kept in keep)
        assert next(values, None) is None
        found.update(dict.fromkeys(tensor["names"], content))
    assert not payloads
    assert found == bits_of(load_sparse_checkpoint(folder))


def test_the_document_is_read_without_the_payloads(folder: Path) -> None:
    content = bytearray((folder / SPARSE_FILE).read_bytes())
    content[-1] ^= 1
    (folder / SPARSE_FILE).write_bytes(content)
    assert read_sparse_document(folder).zeros > 0
    with pytest.raises(DeltaFormatError, match="does not have the hash that the document states"):
        load_sparse_checkpoint(folder)


def test_every_damage_is_named(folder: Path) -> None:
    whole = (folder / SPARSE_FILE).read_bytes()
    generator = random.Random(0)
    start = header(folder / SPARSE_FILE)[1]
    for trial in range(120):
        content = bytearray(whole)
        match trial % 4:
            case 0:  # a flipped bit in the header
                content[generator.randrange(start)] ^= 1 << generator.randrange(8)
            case 1:  # a flipped bit among the payloads
                content[generator.randrange(start, len(content))] ^= 1 << generator.randrange(8)
            case 2:
                content = content[: generator.randrange(len(content))]
            case 3:
                content += bytes(generator.randrange(1, 20))
        (folder / SPARSE_FILE).write_bytes(content)
        with pytest.raises(DeltaFormatError) as caught, open_sparse(folder) as file:
            for tensor in file.document.tensors:
                for name, record in tensor.payloads.items():
                    file.payload(name, record)
        assert str(folder) in str(caught.value)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object], **metadata: str) -> Path:
    """The file with another document and hashes put right, as an attacker would; payloads as they were."""
    file = folder / SPARSE_FILE
    payloads = load_file(file)
    document = json.loads(header(file)[0]["__metadata__"]["document"])
    change(document)
    for tensor in document["tensors"]:
        for part in ("keep", "values"):
            data = payloads.get(f"{tensor['names'][0]}:{part}") if tensor["names"] else None
            if part in tensor and data is not None and tensor[part].get("sha256") == "again":
                tensor[part]["sha256"] = hashlib.sha256(data.tobytes()).hexdigest()
    text = json.dumps(document)
    described = {
        "format": "supermask-sparse-checkpoint",
        "version": "1",
        "document": text,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    save_file(payloads, file, metadata={**described, **metadata})
    return folder


def masked(document: dict[str, Any]) -> dict[str, Any]:
    """The first tensor with a mask."""
    found: dict[str, Any] = next(tensor for tensor in document["tensors"] if "keep" in tensor)
    return found


def test_rewriting_changes_nothing_by_itself(folder: Path, written: Path) -> None:
    rewritten(folder, lambda document: None)
    assert bits_of(load_sparse_checkpoint(folder)) == bits_of(load_sparse_checkpoint(written))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda d: d.pop("delta"), "delta: Field required"),
        (lambda d: d.update(version=2), "version"),
        (lambda d: d.update(tensors=[]), "tensors"),
        (lambda d: masked(d).update(zeros=0), "must state a size of 15360 bytes"),
        (lambda d: masked(d).update(zeros=2**40), "zeros among"),
        (lambda d: masked(d).update(zeros=1.5), "zeros"),
        (lambda d: masked(d).pop("zeros"), "None zeros among"),
        (lambda d: masked(d).update(names=[]), "names"),
        (lambda d: masked(d).update(names=["a\x1b[2J"]), "names"),
        (lambda d: masked(d).update(names=d["tensors"][-1]["names"]), "a tensor is named twice"),
        (lambda d: masked(d).update(shape=[2**20, 2**20]), "beyond the format's limit"),
        (lambda d: masked(d).update(shape=[2**17, 2**17]), "more than 4096 times"),
        (lambda d: masked(d).update(shape=[-1]), "shape"),
        (lambda d: masked(d).update(dtype="object"), "dtype 'object' is none of"),
        (lambda d: masked(d).update(dtype="int8"), "bytes of values do not fit"),
        (lambda d: masked(d)["values"].update(coding="difference"), "coding"),
        (lambda d: masked(d)["values"].update(nbytes=3), "bytes of values do not fit|disagree on what is stored"),
        (lambda d: masked(d)["keep"].update(nbytes=3), "disagree on what is stored"),
        (lambda d: d["tensors"].pop(), "disagree on what is stored"),
    ],
)
def test_a_document_that_does_not_hold_together_is_refused(
    change: Callable[[dict[str, Any]], object], words: str, folder: Path
) -> None:
    rewritten(folder, change)
    with pytest.raises(DeltaFormatError, match=words):
        read_sparse_document(folder) and load_sparse_checkpoint(folder)


def test_payloads_that_do_not_code_what_is_stated(folder: Path) -> None:
    def one_zero_more(document: dict[str, Any]) -> None:
        tensor = masked(document)
        tensor["zeros"] += 1
        tensor["values"]["coding"] = "shuffle"

    rewritten(folder, one_zero_more)
    with pytest.raises(DeltaFormatError, match=r"bert\.embeddings\.word_embeddings\.weight: "):
        load_sparse_checkpoint(folder)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"format": "pt"}, "a safetensors file, but no sparse checkpoint"),
        ({"version": "2"}, "format version '2' is unknown here.*upgrade supermask"),
        ({"sha256": "0" * 64}, "the document does not have the hash"),
        ({"more": "data"}, "the document does not have the hash"),
    ],
)
def test_other_files_and_versions(metadata: dict[str, str], words: str, folder: Path) -> None:
    rewritten(folder, lambda document: None, **metadata)
    with pytest.raises(DeltaFormatError, match=words):
        read_sparse_document(folder)


def test_a_key_that_stands_twice(folder: Path) -> None:
    file = folder / SPARSE_FILE
    text = header(file)[0]["__metadata__"]["document"].replace('"version":1', '"version":1,"version":1')
    digest = hashlib.sha256(text.encode()).hexdigest()
    rewritten(folder, lambda document: None, document=text, sha256=digest)
    with pytest.raises(DeltaFormatError, match="'version' stands twice"):
        read_sparse_document(folder)


def test_payloads_of_another_type(folder: Path) -> None:
    file = folder / SPARSE_FILE
    payloads, metadata = load_file(file), header(file)[0]["__metadata__"]
    payloads = {name: data.view("int8") for name, data in payloads.items()}
    save_file(payloads, file, metadata=metadata)
    with pytest.raises(DeltaFormatError, match="is not stored as bytes"):
        read_sparse_document(folder)


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, folder / SPARSE_FILE)
    with pytest.raises(DeltaFormatError, match="not a whole safetensors file"):
        load_sparse_checkpoint(folder)
    with pytest.raises(DeltaFormatError, match=f"no sparse checkpoint in this folder, it has no {SPARSE_FILE}"):
        load_sparse_checkpoint(tmp_path / "nowhere")
