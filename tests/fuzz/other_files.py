"""The other files that are read: `store.json`, and a sparse checkpoint with its configuration."""

import functools
import hashlib
import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fuzz.anatomy import put_together, take_apart
from fuzz.bases import base_named
from fuzz.byte_edits import edit_bytes
from fuzz.document_edits import edit_json, odd_text
from fuzz.judge import Refusal, Verdict, Violation, attempt, loaded
from fuzz.seeds import seeds_of
from supermask.deltas import TaskDelta
from supermask.deltas.store import DeltaStore
from supermask.errors import BaseMismatchError, ConfigurationError, DeltaFormatError, UnknownNameError
from supermask.interop import load_sparse_checkpoint, read_sparse_document

SPARSE = Path(__file__).parent.parent / "interop" / "golden" / "sparse_v1"
SPARSE_FILE = "sparse_model.safetensors"


def judge_other_file(source: random.Random, folder: Path, *, limit_seconds: float = 1.0) -> tuple[str, Verdict]:
    """Mutate one of the other files and read it.

    Args:
        source: of all choices.
        folder: an empty folder, which is empty again afterwards.
        limit_seconds: of processor time.

    Returns:
        Which file it was, and what became of it.

    Raises:
        Violation: if anything but the right thing or a named error came of it.
    """
    kind = source.choice(list(OTHER_FILES))
    place = folder / "judged"
    place.mkdir()
    start = time.process_time()
    try:
        outcome, message = OTHER_FILES[kind](source, place)
    finally:
        shutil.rmtree(place)
    seconds = time.process_time() - start
    if seconds > limit_seconds:
        raise Violation(f"{kind} took {seconds:.2f} s of processor time")
    return kind, Verdict(outcome, message, 0, seconds)


def read_intact_ones() -> None:
    """Read one of each, so that what is imported once is not the first mutant's."""
    load_sparse_checkpoint(SPARSE)


def mutated_text(source: random.Random, content: Any) -> bytes:
    """JSON, edited in bytes or as a tree, or hardly JSON."""
    text = json.dumps(content, ensure_ascii=False).encode()
    what = source.randrange(4)
    if what == 0:
        return edit_bytes(source, text)
    if what == 1:
        return odd_text(source, content)
    tree = json.loads(text)
    for _ in range(source.choice((1, 1, 3))):
        edit_json(source, tree)
    indent = source.choice((None, 1, 4))
    return json.dumps(tree, indent=indent, ensure_ascii=source.random() < 0.5).encode("utf-8", "surrogatepass")


@functools.cache
def stored_delta() -> TaskDelta:
    return loaded(next(seed.data for seed in seeds_of("every") if seed.name == "one mask"))


def judge_store(source: random.Random, folder: Path) -> tuple[str, str]:
    delta = stored_delta()
    store = DeltaStore(folder / "store")
    delta.save(store.path / "toy")
    base = delta.document.base
    card = {
        "format": "supermask-store",
        "version": 1,
        "base": {"name": base.name, "architecture": base.architecture, "dtype": base.dtype, "digest": base.digest},
    }
    (store.path / "store.json").write_bytes(mutated_text(source, card))
    named = (DeltaFormatError, BaseMismatchError, UnknownNameError)
    message = ""
    reads: tuple[Callable[[], Any], ...] = (
        lambda: store.base,
        lambda: store.names,
        lambda: store.list(),
        lambda: store.verify(base_named("every").model),
    )
    for read in reads:
        found = attempt(read, named)
        message = message or (found.message if isinstance(found, Refusal) else "")
    found = attempt(lambda: store["toy"], named)
    if isinstance(found, Refusal):
        return "refused", message or found.message
    if found != delta:
        raise Violation("the store gives another delta")
    return "right", ""


def judge_sparse(source: random.Random, folder: Path) -> tuple[str, str]:
    configuration, file = (SPARSE / "config.json").read_bytes(), (SPARSE / SPARSE_FILE).read_bytes()
    what = source.choice(("file", "sealed", "sealed", "sealed", "configuration"))
    if what == "configuration":
        configuration = mutated_text(source, json.loads(configuration))
    else:
        file = edit_bytes(source, file) if what == "file" else sealed_sparse(source, file)
    (folder / "config.json").write_bytes(configuration)
    (folder / SPARSE_FILE).write_bytes(file)
    attempt(lambda: read_sparse_document(folder), (DeltaFormatError,))
    model = attempt(lambda: load_sparse_checkpoint(folder), (DeltaFormatError, ConfigurationError))
    if isinstance(model, Refusal):
        return "refused", model.message
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    right = digest.hexdigest() == (SPARSE / "sha256").read_text().strip()
    if not right and what != "sealed":
        raise Violation("a damaged sparse checkpoint was loaded")
    return ("right" if right else "other"), ""


def sealed_sparse(source: random.Random, data: bytes) -> bytes:
    """Edits of document and payloads of a sparse checkpoint, every hash put right."""
    anatomy = take_apart(data)
    for _ in range(source.choice((1, 1, 2, 3))):
        what = source.randrange(4)
        if what == 0:
            edit_json(source, anatomy.document)
        elif what == 1 and anatomy.document.get("changes"):
            edit_json(source, source.choice(anatomy.document["changes"]))
        else:
            name = source.choice(list(anatomy.payloads))
            anatomy.payloads[name] = edit_bytes(source, anatomy.payloads[name] or b"\0")
    return put_together(anatomy, named="supermask-sparse-checkpoint 1")


OTHER_FILES: dict[str, Callable[[random.Random, Path], tuple[str, str]]] = {
    "store.json": judge_store,
    "sparse checkpoint": judge_sparse,
}
