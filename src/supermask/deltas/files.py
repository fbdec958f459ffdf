"""Where a delta lies on disk, and how it gets there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from supermask.atomic import write_through
from supermask.deltas.container import read_container, read_container_document
from supermask.deltas.document import DeltaDocument, parse_document
from supermask.errors import DeltaFormatError, OutputError

__all__ = ["CONFIG_FILE", "DELTA_FILE", "flush_folder", "read_delta", "read_document", "write_delta"]

DELTA_FILE = "delta.safetensors"
CONFIG_FILE = "delta_config.json"


def read_document(path: str | os.PathLike[str]) -> DeltaDocument:
    """Read what a stored delta says about itself; masks and values are not read.

    Args:
        path: the folder that `TaskDelta.save` wrote, or the safetensors file alone.

    Returns:
        The document. The hashes of the payloads are in it but have not been checked.

    Raises:
        DeltaFormatError: if there is no delta, or it is truncated or edited, or the folder's `delta_config.json`
            disagrees with it.
    """
    file, config = _locate(Path(path))
    document = read_container_document(file)
    _require_agreement(document, config)
    return document


def read_delta(path: str | os.PathLike[str]) -> tuple[DeltaDocument, dict[str, bytes]]:
    """Read a stored delta, checking the hash of everything.

    Args:
        path: the folder that `TaskDelta.save` wrote, or the safetensors file alone.

    Returns:
        The document, and the payloads by name.

    Raises:
        DeltaFormatError: as `read_document`, and if a payload does not have its hash.
    """
    file, config = _locate(Path(path))
    document, payloads = read_container(file)
    _require_agreement(document, config)
    return document, payloads


def write_delta(
    path: str | os.PathLike[str], pieces: Iterable[bytes], document: DeltaDocument, *, overwrite: bool = False
) -> Path:
    """Write a delta so that at any moment the old one or the new one is there, whole.

    Both files are first written beside their places and flushed to the disk. Then the old `delta_config.json` is moved
    away, since it would contradict the new delta, and the new files are renamed into place, the delta first.

    Args:
        path: a folder, made if need be, or the name of a single file that ends in `.safetensors`.
        pieces: the bytes of the safetensors file.
        document: what goes into `delta_config.json`; a single file is written without.
        overwrite: replace a delta that is there.

    Returns:
        The safetensors file.

    Raises:
        OutputError: if a delta is there and `overwrite` is False, or the place is not writable, or the disk is full.
            What was there is there still; only if the disk fails after the new delta is in place may its
            `delta_config.json` be missing.
    """
    target = Path(path)
    single = target.suffix == ".safetensors"
    folder = target.parent if single else target
    contents: dict[Path, Iterable[bytes]] = {target if single else folder / DELTA_FILE: pieces}
    if not single:
        contents[folder / CONFIG_FILE] = [document.to_json(indent=2).encode("utf-8") + b"\n"]
    made: list[Path] = []
    try:
        for place in contents:
            if place.exists() and not overwrite:
                raise OutputError(f"{place} exists already; pass overwrite=True to replace it, or choose another path")
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        _replace_files(contents)
    except OutputError:
        raise
    except OSError as error:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space or choose another path" if full else "choose a path that can be written"
        raise OutputError(f"{target}: the delta cannot be saved: {error.strerror or error}; {remedy}") from error
    return next(iter(contents))


def _locate(path: Path) -> tuple[Path, Path | None]:
    """The safetensors file, and the configuration beside it if the path is a folder that has one."""
    try:
        if not path.is_dir():
            return path, None
        file, config = path / DELTA_FILE, path / CONFIG_FILE
        if not file.exists():
            raise DeltaFormatError(
                f"{path}: no delta in this folder, it has no {DELTA_FILE}; pass a folder that TaskDelta.save wrote"
            )
        return file, config if config.exists() else None
    except OSError as error:
        raise DeltaFormatError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None


def _require_agreement(document: DeltaDocument, config: Path | None) -> None:
    if config is None:
        return
    try:
        text = config.read_bytes()
    except OSError as error:
        raise DeltaFormatError(f"{config}: cannot be read: {error.strerror}; check its permissions") from None
    if parse_document(text, str(config)).to_json() != document.to_json():
        raise DeltaFormatError(
            f"{config}: disagrees with the document inside {DELTA_FILE}, so it was edited or is another delta's; "
            f"delete it: the delta is complete without"
        )


def _replace_files(contents: Mapping[Path, Iterable[bytes]]) -> None:
    """Write files and rename them into place in the given order; up to the first rename, everything stays as it was."""
    token = secrets.token_hex(8)
    written = {place: place.with_name(f".{place.name}.{token}.new") for place in contents}
    first, *rest = contents
    try:
        for place, pieces in contents.items():
            write_through(written[place], pieces)
        retired = {place: place.with_name(f".{place.name}.{token}.old") for place in rest if place.exists()}
        try:
            for place, aside in retired.items():
                place.replace(aside)
            written[first].replace(first)
        except BaseException:
            for place, aside in retired.items():
                if aside.exists():
                    aside.replace(place)
            raise
        for aside in retired.values():
            aside.unlink()
        for place in rest:
            written[place].replace(place)
        flush_folder(first.parent)
    finally:
        for leftover in written.values():
            leftover.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Make renames last through a power cut; Windows cannot open folders and needs no such thing."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
