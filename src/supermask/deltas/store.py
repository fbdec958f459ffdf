"""The store: a folder, or a hub repository, of many deltas over one base."""

from __future__ import annotations

import difflib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import filelock
from torch import Tensor, nn

from supermask.atomic import flush_folder
from supermask.deltas.delta import TaskDelta
from supermask.deltas.file import CONFIG_FILE, DELTA_FILE, read_document
from supermask.deltas.fingerprint import named_tensors, require_base
from supermask.deltas.listing import (
    BESIDE,
    SAME_BUT_FOR_CASE,
    STORE_FILE,
    StoreBase,
    StoredDelta,
    StoreFault,
    StoreListing,
    create_store_file,
    name_fault,
    read_store_base,
    require_base_of_store,
    scan_store,
    told_in,
)
from supermask.errors import ConfigurationError, OutputError, UnknownNameError

__all__ = ["DeltaStore", "StoreVerification"]

_LOCK_FILE: Final = ".lock"
_PATIENCE_SECONDS: Final = 60.0
_TOKEN = r"[0-9a-f]{16}"
_LEFTOVER = re.compile(rf"\.[A-Za-z0-9][A-Za-z0-9._-]*\.{_TOKEN}\.(new|old)|\.store\.json\.{_TOKEN}\.part")
_OF_A_DELTA = re.compile(
    rf"{re.escape(DELTA_FILE)}|{re.escape(CONFIG_FILE)}|README\.md|\.delta[._a-z]*\.{_TOKEN}\.part"
)


@final
@dataclass(frozen=True, kw_only=True)
class StoreVerification:
    """What came of checking a store: names without a fault, all faults of the others, and what is no delta at all.

    `decoded` says whether payloads were decoded against the base, or their checksums compared alone.
    """

    intact: tuple[str, ...]
    faults: tuple[StoreFault, ...]
    strangers: tuple[StoreFault, ...]
    decoded: bool


@final
class DeltaStore:
    """A folder of many deltas over one base.

    Each delta is a subfolder, as `TaskDelta.save` writes it, and can be used without the store. `store.json` says that
    the folder is a store and names the base; it lists no deltas, so nothing in it can go stale. The folder as it is
    makes a hub repository.

    One process writes at a time, others wait for it; reading never waits. Whenever a process is killed, the store holds
    each delta whole, as it was or as it was to be.

    Args:
        path: the store's folder. It is made when the first delta is added, and takes that delta's base.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from supermask.deltas import KeepMask, base_fingerprint
        >>> base = nn.Linear(3, 2, bias=False)
        >>> keep = torch.tensor([[True, False, True], [True, True, True]])
        >>> delta = TaskDelta.create(
        ...     {"weight": KeepMask(keep)}, base=base_fingerprint(base), task={"name": "mrpc"}
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = DeltaStore(folder)
        ...     added = store.add(delta)
        ...     print(store.names, store["mrpc"] == delta, store.list().deltas[0].document.zeros)
        ('mrpc',) True 1
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def add(
        self, delta: TaskDelta | str | os.PathLike[str], *, name: str | None = None, overwrite: bool = False
    ) -> StoredDelta:
        """Put a delta into the store, whole or not at all.

        Args:
            delta: the delta, or where it is saved.
            name: what to call it; by default its task's name.
            overwrite: replace the delta of that name.

        Returns:
            Its row.

        Raises:
            ConfigurationError: if the name cannot be a folder's on every system.
            DeltaFormatError: if the path holds no intact delta, or the store's `store.json` is damaged.
            BaseMismatchError: if the delta was learnt on another base than the store's, naming both.
            OutputError: if the name is taken, the folder holds something else, or it cannot be written.
        """
        added = delta if isinstance(delta, TaskDelta) else TaskDelta.load(delta)
        chosen = _default_name(added) if name is None else name
        if fault := name_fault(chosen):
            raise ConfigurationError(f"{fault}; choose another name")
        self._make_folder()
        place, staged = self.path / chosen, self._aside(chosen, "new")
        with self._locked(), _explained(f"{place}: the delta cannot be stored"):
            is_store = os.path.lexists(self.path / STORE_FILE)
            if is_store:
                require_base_of_store(added.document.base, self.base, delta=chosen, store=self.path)
            if not self._is_free(chosen, overwrite=overwrite):
                added.save(place, overwrite=True)
            else:
                try:
                    added.save(staged)
                    if not is_store:
                        create_store_file(self.path, added.document.base)
                    staged.rename(place)  # fails if somebody has put something there after all
                    flush_folder(self.path)
                finally:
                    shutil.rmtree(staged, ignore_errors=True)
        return StoredDelta(name=chosen, path=place, nbytes=added.nbytes_on_disk(), document=added.document)

    def remove(self, name: str) -> None:
        """Take a delta out of the store and delete it; a damaged one too.

        Raises:
            UnknownNameError: if there is no delta of that name.
            OutputError: if its folder holds files that are not a delta's, or cannot be deleted.
        """
        read_store_base(self.path)
        with self._locked():
            place, aside = self._place(name), self._aside(name, "old")
            with _explained(f"{place}: the delta cannot be removed"):
                kept = sorted(file.name for file in place.iterdir() if not _OF_A_DELTA.fullmatch(file.name))
                if kept:
                    raise OutputError(
                        f"{place}: holds more than a delta ({', '.join(map(repr, kept[:3]))}); move that away first, "
                        "or delete the folder yourself"
                    )
                place.rename(aside)
                flush_folder(self.path)
            shutil.rmtree(aside, ignore_errors=True)  # what is left of it the next writer sweeps away

    def list(self) -> StoreListing:
        """Describe every delta from its header alone; masks and values are not read, and damage hides no other delta.

        Raises:
            DeltaFormatError: if there is no store, or its `store.json` is damaged.
        """
        base = self.base
        names, faults, strangers = scan_store(self.path)
        deltas = []
        for name in names:
            place = self.path / name
            with told_in(faults, place):
                document = read_document(place / DELTA_FILE)
                require_base_of_store(document.base, base, delta=name, store=self.path)
                nbytes = (place / DELTA_FILE).stat().st_size
                deltas.append(StoredDelta(name=name, path=place, nbytes=nbytes, document=document))
        return StoreListing(deltas=tuple(deltas), faults=tuple(faults), strangers=strangers)

    def verify(self, base: nn.Module | Mapping[str, Tensor] | None = None) -> StoreVerification:
        """Check every delta: structure, checksums, base and name, and with the base given, that each payload decodes.

        Of a file's own structure and checksums the first fault is told, since what follows cannot be trusted; of
        payloads that do not decode, each.

        Args:
            base: the store's base, or its tensors by name; a head of any size may be on it. Nothing is changed.

        Raises:
            DeltaFormatError: if there is no store, or its `store.json` is damaged.
            BaseMismatchError: if the base given is not the store's.
        """
        listing, tensors = self.list(), {} if base is None else named_tensors(base)
        if base is not None and listing.deltas:
            require_base(tensors, listing.deltas[0].document.base.fingerprint)  # all have this base: hashed once
        faults = list(listing.faults)
        for row in listing.deltas:
            with told_in(faults, row.path):
                changes = self._load(row.path).changes_for(tensors)
                for name in changes if base is not None else ():
                    with told_in(faults, row.path):
                        changes[name]
        faulty = {fault.name for fault in faults}
        return StoreVerification(
            intact=tuple(row.name for row in listing.deltas if row.name not in faulty),
            faults=tuple(sorted(faults, key=lambda fault: fault.name)),
            strangers=listing.strangers,
            decoded=base is not None,
        )

    @property
    def base(self) -> StoreBase:
        """The base of all its deltas, from `store.json`."""
        return read_store_base(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its deltas, damaged ones included, in alphabetical order."""
        read_store_base(self.path)
        return scan_store(self.path)[0]

    def __getitem__(self, name: str) -> TaskDelta:
        """Load a delta; every checksum of it is compared.

        Raises:
            UnknownNameError: if there is no delta of that name.
            DeltaFormatError: if it is damaged.
            BaseMismatchError: if it is of another base than the store's.
        """
        return self._load(self._place(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __repr__(self) -> str:
        return f"DeltaStore({str(self.path)!r})"

    def _load(self, place: Path) -> TaskDelta:
        # The file alone: what lies beside it says nothing that it does not say itself.
        delta = TaskDelta.load(place / DELTA_FILE)
        require_base_of_store(delta.document.base, self.base, delta=place.name, store=self.path)
        return delta

    def _place(self, name: str) -> Path:
        """The folder of a delta that is there. The name is looked up and never made a path of otherwise."""
        names = self.names
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1) if isinstance(name, str) else []
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names[:5]) or 'none'}"
            raise UnknownNameError(f"no delta {str(name)[:100]!r} in {self.path}; {hint}")
        return self.path / name

    def _make_folder(self) -> None:
        with _explained(f"{self.path}: cannot be made a store", "; name a folder that you may write to"):
            self.path.mkdir(parents=True, exist_ok=True)
            entries = sorted(entry.name for entry in self.path.iterdir())
            others = [name for name in entries if not name.startswith(".") and name.lower() not in BESIDE]
            # Asked last, since a racing process may make it a store meanwhile, and put a delta in it.
            if others and not os.path.lexists(self.path / STORE_FILE):
                raise OutputError(
                    f"{self.path}: is no store and not empty, it holds {others[0]!r}; name a store or a new folder"
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers out, and delete what a killed one left behind.

        The system lets go of the lock when the process ends, however it ends. The file stays: taking it away would let
        two processes hold locks on two files of one name.
        """
        path = self.path / _LOCK_FILE
        lock = filelock.FileLock(path, timeout=_PATIENCE_SECONDS)
        remedy = "; choose a store that you may write to, on a disk that has locks"
        with _explained(f"{path}: the store cannot be locked for writing", remedy):
            try:
                lock.acquire()
            except filelock.Timeout:
                raise OutputError(
                    f"{self.path}: another process has been writing to this store for {_PATIENCE_SECONDS:.0f} seconds; "
                    "wait for it to end, or end it"
                ) from None
        try:
            for entry in self.path.iterdir():
                if _LEFTOVER.fullmatch(entry.name):
                    shutil.rmtree(entry, ignore_errors=True)  # of a file or link it lets alone
                    with suppress(OSError):
                        entry.unlink()
            yield
        finally:
            lock.release()

    def _is_free(self, name: str, *, overwrite: bool) -> bool:
        """Whether nothing has the name; False if a delta has it that is to be replaced."""
        taken = {entry.name.lower(): entry.name for entry in self.path.iterdir()}.get(name.lower())
        if taken is None:
            return True
        if taken != name:
            raise OutputError(f"{self.path}: {name!r} differs from {taken!r} {SAME_BUT_FOR_CASE}; choose another name")
        if name not in scan_store(self.path)[0]:
            raise OutputError(f"{self.path / name}: is there and is no delta; move it away, or choose another name")
        if not overwrite:
            raise OutputError(
                f"{self.path}: has a delta {name!r} already; choose another name, or pass overwrite=True to replace it"
            )
        return False

    def _aside(self, name: str, end: str) -> Path:
        return self.path / f".{name}.{secrets.token_hex(8)}.{end}"


@contextmanager
def _explained(what: str, remedy: str = "") -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{what}: {error.strerror or error}{remedy}") from error


def _default_name(delta: TaskDelta) -> str:
    """The task's name, with '-' for what a delta's may not hold."""
    told = delta.task.name or ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", told).strip("-._")[:100].rstrip("-._")
    if fault := name_fault(name):
        raise ConfigurationError(
            f"the delta's task is called {told[:100]!r}, which gives no name for it ({fault}); pass a name"
        )
    return name
