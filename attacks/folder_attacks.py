"""What lies beside a delta, and folders that are not what they seem: configurations, stores, links, pipes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attacks.attack import Attack, edited, on_folder, seed

from fuzz.bases import base_named
from supermask.deltas import TaskDelta, read_document
from supermask.deltas.store import DeltaStore
from supermask.errors import BaseMismatchError, DeltaFormatError, DeltaStateError, UnknownNameError
from supermask.interop import load_sparse_checkpoint

__all__ = ["FOLDER_ATTACKS"]

Crafted = Callable[[Path], Callable[[], Any]]
SPARSE = Path(__file__).parent.parent / "tests" / "interop" / "golden" / "sparse_v1"


def beside(configuration: Callable[[Path], None]) -> Crafted:
    """A folder with an intact delta and a `delta_config.json` of one's own."""

    def craft(folder: Path) -> Callable[[], Any]:
        (folder / "delta.safetensors").write_bytes(seed())
        configuration(folder / "delta_config.json")
        return lambda: (read_document(folder), TaskDelta.load(folder))

    return craft


def text(content: bytes | Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda place: void(place.write_bytes(content() if callable(content) else content))


def void(_: object) -> None:
    return None


def instead(make: Callable[[Path], None]) -> Crafted:
    """A folder with something in place of the delta's file."""

    def craft(folder: Path) -> Callable[[], Any]:
        make(folder / "delta.safetensors")
        return lambda: TaskDelta.load(folder)

    return craft


def other_document() -> bytes:
    document = edited(lambda parts: parts.document["task"].update(name="another"))()
    return json.dumps(json.loads(expanded(document))).encode()


def expanded(data: bytes) -> str:
    from fuzz.anatomy import take_apart

    return json.dumps(take_apart(data).document)


def in_store(spoil: Callable[[Path], None], read: Callable[[DeltaStore], Any]) -> Crafted:
    """A store of one delta, `toy`, in which something was changed behind its back."""

    def craft(folder: Path) -> Callable[[], Any]:
        (folder / "seed.safetensors").write_bytes(seed())
        store = DeltaStore(folder / "store")
        store.add(folder / "seed.safetensors", name="toy")
        spoil(store.path)
        return lambda: read(store)

    return craft


def linked_outside(path: Path) -> None:
    """A delta in a store that is a link to a place outside."""
    (path / "toy").rename(path.parent / "outside")
    (path / "toy").symlink_to(path.parent / "outside")


def endless_card(path: Path) -> None:
    (path / "store.json").unlink()
    (path / "store.json").symlink_to("/dev/zero")


def of_other_base(path: Path) -> None:
    data = edited(lambda parts: parts.document["base"].update(digest="1" * 64))()
    (path / "toy" / "delta_config.json").unlink()
    (path / "toy" / "delta.safetensors").write_bytes(data)


def sparse(**configuration: Any) -> Crafted:
    """A sparse checkpoint with another configuration."""

    def craft(folder: Path) -> Callable[[], Any]:
        place = shutil.copytree(SPARSE, folder / "sparse")
        content = json.loads((place / "config.json").read_text()) | configuration
        (place / "config.json").write_text(json.dumps(content))
        return lambda: load_sparse_checkpoint(place)

    return craft


def sparse_with_code(folder: Path) -> Callable[[], Any]:
    """A configuration that names code to run, and the code, which would leave a file."""
    place = shutil.copytree(SPARSE, folder / "sparse")
    content = json.loads((place / "config.json").read_text())
    content |= {"auto_map": {"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"}}
    (place / "config.json").write_text(json.dumps(content))
    (place / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")

    def read() -> None:
        try:
            load_sparse_checkpoint(place)
        finally:
            assert not (folder / "ran").exists(), "code of the checkpoint was run"

    return read


def steering_task(folder: Path) -> Callable[[], Any]:
    """The name of a task that steers a terminal, in the message of a delta applied over another."""
    data = edited(lambda parts: parts.document["task"].update(name="\x1b[2J\x9b2J\u202e"))()
    (folder / "delta.safetensors").write_bytes(data)
    delta, model = TaskDelta.load(folder), base_named("every").model

    def read() -> None:
        with delta.applied(model):
            delta.apply_(model)

    return read


CONFIGURATIONS: tuple[Attack, ...] = (
    on_folder(
        "configuration of another delta",
        "beside an intact one",
        DeltaFormatError,
        "disagrees",
        beside(text(other_document)),
    ),
    on_folder("empty configuration", "no bytes", DeltaFormatError, "not valid JSON", beside(text(b""))),
    on_folder(
        "deep configuration", "100,000 nested lists", DeltaFormatError, "not valid JSON", beside(text(b"[" * 100_000))
    ),
    on_folder(
        "configuration that is a folder",
        "which cannot be read",
        DeltaFormatError,
        "",
        beside(lambda place: place.mkdir()),
    ),
    on_folder(
        "configuration with a key twice",
        "the right one and another",
        DeltaFormatError,
        "stands twice",
        beside(text(lambda: b'{"version":2,' + expanded(seed()).encode()[1:])),
    ),
    on_folder(
        "configuration that is a pipe",
        "which nobody ever writes to",
        DeltaFormatError,
        "",
        beside(lambda place: os.mkfifo(place)),
    ),
    on_folder(
        "configuration without an end",
        "a link to /dev/zero",
        DeltaFormatError,
        "",
        beside(lambda place: place.symlink_to("/dev/zero")),
    ),
    on_folder(
        "delta that is a folder",
        "in place of the file",
        DeltaFormatError,
        "no such file",
        instead(lambda place: place.mkdir()),
    ),
    on_folder(
        "delta that is a pipe",
        "which nobody ever writes to",
        DeltaFormatError,
        "no such file",
        instead(lambda place: os.mkfifo(place)),
    ),
    on_folder(
        "delta without an end",
        "a link to /dev/zero",
        DeltaFormatError,
        "no such file",
        instead(lambda place: place.symlink_to("/dev/zero")),
    ),
    on_folder(
        "link to itself", "which leads nowhere", DeltaFormatError, "", instead(lambda place: place.symlink_to(place))
    ),
    on_folder(
        "link to a secret",
        "another file of the reader's",
        DeltaFormatError,
        "no safetensors",
        instead(lambda place: place.symlink_to("/etc/passwd")),
    ),
    on_folder(
        "task that steers the terminal", "ESC, CSI and U+202E in free JSON", DeltaStateError, "applied", steering_task
    ),
)

STORES: tuple[Attack, ...] = (
    on_folder(
        "name that leaves the store",
        "`../outside` asked for",
        UnknownNameError,
        "no delta",
        in_store(lambda path: None, lambda store: store["../outside"]),
    ),
    on_folder(
        "link out of the store",
        "a delta elsewhere",
        UnknownNameError,
        "no delta",
        in_store(linked_outside, lambda store: store["toy"]),
    ),
    on_folder(
        "delta of another base",
        "put into a store behind its back",
        BaseMismatchError,
        "learnt on",
        in_store(of_other_base, lambda store: store["toy"]),
    ),
    on_folder(
        "store.json of 64 KiB and more",
        "filled up with white space",
        DeltaFormatError,
        "longer than",
        in_store(
            lambda path: void((path / "store.json").write_bytes(b"{" + b" " * (1 << 17) + b"}")),
            lambda store: store.names,
        ),
    ),
    on_folder(
        "store.json without an end",
        "a link to /dev/zero",
        DeltaFormatError,
        "no store.json",
        in_store(
            endless_card,
            lambda store: store.names,
        ),
    ),
    on_folder(
        "store.json that nests",
        "20,000 lists",
        DeltaFormatError,
        "not valid JSON",
        in_store(
            lambda path: void((path / "store.json").write_bytes(b'{"a":' + b"[" * 20_000)), lambda store: store.list()
        ),
    ),
)

SPARSE_CHECKPOINTS: tuple[Attack, ...] = (
    on_folder("checkpoint with code", "`auto_map` and a module beside it", None, "", sparse_with_code),
    on_folder(
        "vocabulary of 10^12",
        "a model that fits no memory",
        DeltaFormatError,
        "does not fit",
        sparse(vocab_size=10**12),
    ),
    on_folder(
        "other architecture",
        "BERT's configuration",
        DeltaFormatError,
        "do not belong together",
        sparse(model_type="bert"),
    ),
)

FOLDER_ATTACKS: tuple[Attack, ...] = (*CONFIGURATIONS, *STORES, *SPARSE_CHECKPOINTS)
