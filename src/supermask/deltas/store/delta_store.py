"""A folder of many deltas over one base."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

from torch import Tensor, nn

from supermask.atomic import flush_folder
from supermask.deltas.delta import TaskDelta
from supermask.deltas.file import CONFIG_FILE, DELTA_FILE
from supermask.deltas.store.card import CARD_FILE, StoreBase, create_card, read_card, require_base_of_store
from supermask.deltas.store.contents import StoredDelta, StoreListing, list_deltas, scan_store, twins
from supermask.deltas.store.lock import locked
from supermask.deltas.store.names import BESIDE, default_name, require_name
from supermask.deltas.store.verification import StoreVerification, verify_deltas
from supermask.errors import OutputError, UnknownNameError

__all__ = ["DeltaStore"]

_TOKEN = r"[0-9a-f]{16}"
_LEFTOVER = re.compile(rf"\.[A-Za-z0-9][A-Za-z0-9._-]*\.{_TOKEN}\.(new|old)|\.store\.json\.{_TOKEN}\.part")
_LEFTOVER_IN_DELTA = re.compile(rf"\.delta[._a-z]*\.{_TOKEN}\.part")
_OF_A_DELTA = frozenset({DELTA_FILE, CONFIG_FILE, "README.md"})


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
        ...     print(store.names, store["mrpc"] == delta, store.list().deltas[0].zeros)
        ('mrpc',) True 1
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def add(
        self, delta: TaskDelta | str | os.PathLike[str], *, name: str | None = None, overwrite: bool = False
    ) -> StoredDelta:
        """Put a delta into the store, whole or not at all.

        Args:
            delta: the delta, or where it is saved; it is read and its checksums are compared.
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
        chosen = default_name(added.task) if name is None else name
        require_name(chosen)
        self._make_folder()
        place = self.path / chosen
        with locked(self.path):
            self._sweep()
            new = not os.path.lexists(self.path / CARD_FILE)
            if not new:
                require_base_of_store(added.document.base, read_card(self.path), delta=chosen, store=self.path)
            if self._is_free(chosen, overwrite=overwrite):
                self._write(added, place, new_store=new)
            else:
                added.save(place, overwrite=True)
        file = place / DELTA_FILE
        return StoredDelta(name=chosen, path=place, nbytes=file.stat().st_size, document=added.document)

    def remove(self, name: str) -> None:
        """Take a delta out of the store and delete it; a damaged one too.

        Args:
            name: of the delta.

        Raises:
            UnknownNameError: if there is no delta of that name.
            OutputError: if its folder holds files that are not a delta's, or cannot be deleted.
        """
        read_card(self.path)
        with locked(self.path):
            self._sweep()
            place = self._place(name)
            try:
                kept = [
                    entry.name
                    for entry in place.iterdir()
                    if entry.name not in _OF_A_DELTA and not _LEFTOVER_IN_DELTA.fullmatch(entry.name)
                ]
                if kept:
                    raise OutputError(
                        f"{place}: holds more than a delta ({', '.join(map(repr, sorted(kept)[:3]))}); move that away "
                        "first, or delete the folder yourself"
                    )
                aside = self._aside(name, "old")
                place.rename(aside)
                flush_folder(self.path)
            except OutputError:
                raise
            except OSError as error:
                raise OutputError(f"{place}: the delta cannot be removed: {error.strerror or error}") from error
            shutil.rmtree(aside, ignore_errors=True)  # what is left of it the next writer sweeps away

    def list(self) -> StoreListing:
        """Describe every delta from its header alone; masks and values are not read.

        Returns:
            A row for each delta, and beside the rows what is damaged, does not belong here or is no delta.

        Raises:
            DeltaFormatError: if there is no store, or its `store.json` is damaged.
        """
        return list_deltas(self.path, self.base)

    def verify(self, base: nn.Module | Mapping[str, Tensor] | None = None) -> StoreVerification:
        """Check every delta: structure, checksums, base and name, and with the base given, that each payload decodes.

        Args:
            base: the store's base, or its tensors by name; a head of any size may be on it. Nothing is changed.

        Returns:
            Which deltas are intact, and all faults of the others.

        Raises:
            DeltaFormatError: if there is no store, or its `store.json` is damaged.
            BaseMismatchError: if the base given is not the store's.
        """
        store_base = self.base
        names, strangers = scan_store(self.path)
        faults = (*twins(names), *verify_deltas(self.path, names, store_base, base))
        faulty = {fault.name for fault in faults}
        return StoreVerification(
            intact=tuple(name for name in names if name not in faulty),
            faults=faults,
            strangers=strangers,
            decoded=base is not None,
        )

    @property
    def base(self) -> StoreBase:
        """The base of all its deltas, from `store.json`."""
        return read_card(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its deltas, damaged ones included, in alphabetical order."""
        read_card(self.path)
        return scan_store(self.path)[0]

    def __getitem__(self, name: str) -> TaskDelta:
        """Load a delta; every checksum of it is compared.

        Raises:
            UnknownNameError: if there is no delta of that name.
            DeltaFormatError: if it is damaged.
            BaseMismatchError: if it is of another base than the store's.
        """
        base = self.base
        delta = TaskDelta.load(self._place(name))
        require_base_of_store(delta.document.base, base, delta=name, store=self.path)
        return delta

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __repr__(self) -> str:
        return f"DeltaStore({str(self.path)!r})"

    def _place(self, name: str) -> Path:
        """The folder of a delta that is there. The name is looked up and never made a path of otherwise."""
        names = self.names
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1) if isinstance(name, str) else []
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(names[:5]) or 'none'}"
            raise UnknownNameError(f"no delta {str(name)[:100]!r} in {self.path}; {hint}")
        return self.path / name

    def _make_folder(self) -> None:
        try:
            if self.path.is_dir() and not os.path.lexists(self.path / CARD_FILE):
                others = sorted(
                    entry.name
                    for entry in self.path.iterdir()
                    if not entry.name.startswith(".") and entry.name.lower() not in BESIDE
                )
                # A racing process may have made it a store by now, with a delta in it.
                if others and not os.path.lexists(self.path / CARD_FILE):
                    raise OutputError(
                        f"{self.path}: is no store and not empty, it holds {others[0]!r}; name a store or a new folder"
                    )
            self.path.mkdir(parents=True, exist_ok=True)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be made a store: {error.strerror or error}; name a folder that you may write to"
            ) from error

    def _is_free(self, name: str, *, overwrite: bool) -> bool:
        """Whether nothing has the name; False if a delta has it that is to be replaced."""
        taken = {entry.name.lower(): entry.name for entry in self.path.iterdir()}.get(name.lower())
        if taken is None:
            return True
        if taken != name:
            raise OutputError(
                f"{self.path}: {name!r} differs from {taken!r} in case alone, and many systems cannot tell the two "
                "apart; choose another name"
            )
        if name not in scan_store(self.path)[0]:
            raise OutputError(f"{self.path / name}: is there and is no delta; move it away, or choose another name")
        if not overwrite:
            raise OutputError(
                f"{self.path}: has a delta {name!r} already; choose another name, or pass overwrite=True to replace it"
            )
        return False

    def _write(self, delta: TaskDelta, place: Path, *, new_store: bool) -> None:
        staged = self._aside(place.name, "new")
        try:
            delta.save(staged)
            if new_store:
                create_card(self.path, delta.document.base)
            staged.rename(place)  # fails if somebody has put something there after all
            flush_folder(self.path)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{place}: the delta cannot be stored: {error.strerror or error}") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _aside(self, name: str, end: str) -> Path:
        return self.path / f".{name}.{secrets.token_hex(8)}.{end}"

    def _sweep(self) -> None:
        """Delete what a killed writer left behind. Under the lock: no other writer is at work."""
        for entry in self.path.iterdir():
            if not _LEFTOVER.fullmatch(entry.name):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    entry.unlink()
