"""Documents that would take gigabytes if they were believed, and what refusing one takes, measured by itself.

`python tests/deltas/bombs.py FOLDER` prints of each the growth of the process in MiB, the seconds, and the refusal.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import zstandard

from deltas.reference_format import behind, header_of

PARTS: Final = 1 << 17  # with a comma and a colon each, just as many as a document may have


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"k%d":%d' % (number, number) for number in range(count)) + b"}"


BOMBS: dict[str, Callable[[], bytes]] = {
    "800,000 bad keys": lambda: keys(800_000),
    "1.8 million small dicts": lambda: b'{"changes":[' + b"{}," * 1_800_000 + b"{}]}",
    "a list of 90 MB": lambda: b'{"head":[' + b"1," * 45_000_000 + b"1]}",
    "bad keys, as many as there may be": lambda: keys(PARTS - 2),
    "small dicts, as many as there may be": lambda: b'{"changes":[' + b"{}," * (PARTS - 5) + b"{}]}",
    "numbers for names, as many as there may be": lambda: b'{"head":[' + b"1," * (2 * PARTS - 5) + b"1]}",
    "hashes, as many as there may be": lambda: b'{"base":{"tensors":' + keys(PARTS - 4) + b"}}",
    "splits, as many as there may be": lambda: b'{"training":{"data":' + keys(PARTS - 4) + b"}}",
    "scores, as many as there may be": lambda: (
        b'{"training":{"scores":{' + b",".join(b'"s%d":%s' % (n, keys(1200)) for n in range(100)) + b"}}}"
    ),
    "settings, as many as there may be": lambda: b'{"method":' + keys(PARTS - 3) + b"}",
    "one string of the largest size": lambda: (
        b'{"method":{"kind":"' + "\U0001f600".encode() * ((1 << 20) - 10) + b'"}}'
    ),
    "deep, as many as there may be": lambda: (
        b'{"method":{"a":' + b"[" * (2 * PARTS - 5) + b"]" * (2 * PARTS - 5) + b"}}"
    ),
}


def file_of(text: bytes) -> bytes:
    """A delta's file whose document is this text, with the right hash."""
    packed = zstandard.ZstdCompressor(level=3).compress(text)
    return behind(header_of(text, len(packed), 0), packed)


def refusals(folder: Path) -> dict[str, tuple[float, float, str]]:
    """What refusing each of them takes: growth in MiB, seconds, and the message; measured in processes of their own."""
    for place, text in enumerate(BOMBS.values()):
        (folder / f"{place}.safetensors").write_bytes(file_of(text()))
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, __file__, str(folder)], env=found, capture_output=True, text=True, check=True)
    return dict(zip(BOMBS, map(json.loads, ran.stdout.splitlines()), strict=True))


def memory_mib(name: str) -> float:
    """`VmRSS`, or `VmHWM`: the most since the process began, for which `ru_maxrss` would begin with its parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def main(folder: Path) -> None:
    from deltas.tiny_files import smallest_file
    from supermask.deltas import read_document
    from supermask.errors import DeltaFormatError

    (folder / "intact.safetensors").write_bytes(smallest_file())
    read_document(folder / "intact.safetensors")  # what is imported once is no part of it
    for place in range(len(BOMBS)):
        if (child := os.fork()) == 0:
            before, start = memory_mib("VmRSS"), time.perf_counter()
            try:
                read_document(folder / f"{place}.safetensors")
                message = "not refused"
            except DeltaFormatError as error:
                message = str(error)
            seconds = time.perf_counter() - start
            print(json.dumps([memory_mib("VmHWM") - before, seconds, message]), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
