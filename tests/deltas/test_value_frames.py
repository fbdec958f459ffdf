from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from deltas.reference_values import frame, raw_block, run_block, skippable_frame, with_length
from supermask.deltas.value_frames import frame_compressor, pack_frame, unpack_frames
from supermask.errors import DeltaFormatError

CONTENT = bytes(range(16))
HOSTILE = {
    "no length": (b"", "cut off"),
    "length alone": (with_length(b""), "no zstd frame"),
    "length beyond the end": (b"\xff\xff\xff\xff" + frame(CONTENT), "cut off"),
    "length too short": ((20).to_bytes(4, "little") + frame(CONTENT), "12 bytes follow"),
    "header cut off": (with_length(frame(CONTENT)[:9]), "no zstd frame"),
    "not zstd": (with_length(CONTENT), "no zstd frame"),
    "magic missing": (with_length(frame(CONTENT)[4:]), "no zstd frame"),
    "claims 2^40 bytes": (with_length(frame(CONTENT, stated=1 << 40)), "states a size of 1099511627776"),
    "claims 2^64-1 bytes": (with_length(frame(CONTENT, stated=2**64 - 1)), "states a size of"),
    "claims too little": (with_length(frame(CONTENT[:8])), "states a size of 8"),
    "no size": (with_length(zstandard.ZstdCompressor(write_content_size=False).compress(CONTENT)), "must state a size"),
    "checksum": (with_length(zstandard.ZstdCompressor(write_checksum=True).compress(CONTENT)), "checksum True"),
    "dictionary": (with_length(frame(CONTENT, dictionary=7)), "dictionary 7"),
    "window of 1 GiB": (with_length(frame(CONTENT, window=1 << 30)), "window of 1073741824"),
    "skippable frame": (with_length(skippable_frame(CONTENT)), "no zstd frame"),
    "frame after skippable frame": (with_length(skippable_frame(b"") + frame(CONTENT)), "no zstd frame"),
    "frame before skippable frame": (with_length(frame(CONTENT) + skippable_frame(b"")), "unused data"),
    "two frames in one": (with_length(frame(CONTENT) + frame(b"")), "unused data"),
    "two frames": (with_length(frame(CONTENT)) * 2, "bytes follow the last of 1 frames"),
    "trailing byte": (with_length(frame(CONTENT)) + b"\0", "1 bytes follow"),
    "trailing byte in the frame": (with_length(frame(CONTENT) + b"\0"), "unused data"),
    "gives less than it states": (with_length(frame(CONTENT[:15], stated=16)), "damaged|instead of"),
    "gives more than it states": (with_length(frame(CONTENT + b"!", stated=16)), "damaged"),
    "never ends": (with_length(frame(b"", stated=16, blocks=[raw_block(CONTENT, last=False)])), "damaged"),
    "a bomb of runs": (
        with_length(frame(b"", stated=16, blocks=[run_block(b"x", 1 << 17, last=False)] * 5000)),
        "damaged",
    ),
    "a million empty blocks": (
        with_length(frame(b"", stated=16, blocks=[raw_block(b"", last=False)] * 1_000_000)),
        "damaged",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_payloads_are_refused(name: str) -> None:
    payload, message = HOSTILE[name]
    tracemalloc.start()
    with pytest.raises(DeltaFormatError, match=message):
        list(unpack_frames(payload, [16]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 17


def test_a_window_within_the_bound_and_empty_blocks_are_fine() -> None:
    for payload in (
        frame(CONTENT, window=1 << 21),
        frame(b"", stated=16, blocks=[raw_block(b"", last=False), raw_block(CONTENT, last=True)]),
        zstandard.ZstdCompressor(level=19).compress(CONTENT),
    ):
        assert list(unpack_frames(with_length(payload), [16])) == [CONTENT]


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 20), st.booleans())
def test_any_frame_is_refused_or_holds_what_it_must(body: bytes, size: int, framed: bool) -> None:
    payload = with_length(frame(b"", stated=size, blocks=[body])) if framed else body
    try:
        contents = list(unpack_frames(payload, [size]))
    except DeltaFormatError:
        return
    assert [len(content) for content in contents] == [size]


def test_frames_come_back_in_order() -> None:
    compressor = frame_compressor()
    blocks = [np.full(size, size % 251, dtype=np.uint8) for size in (1 << 21, 0, 1, 70_000)]
    payload = b"".join(pack_frame(compressor, block) for block in blocks)
    sizes = [block.size for block in blocks]
    assert list(unpack_frames(payload, sizes)) == [block.tobytes() for block in blocks]
    assert list(unpack_frames(memoryview(payload), sizes)) == [block.tobytes() for block in blocks]
    with pytest.raises(DeltaFormatError, match="frame 0 of values must state a size of 0"):
        unpack_frames(payload, sizes[1:])
    with pytest.raises(DeltaFormatError, match=r"cut off in frame 4 of 5"):
        unpack_frames(payload, [*sizes, 1])


def test_a_later_frame_is_checked_before_the_first_is_read() -> None:
    payload = with_length(frame(CONTENT)) + with_length(frame(CONTENT, stated=1 << 40))
    with pytest.raises(DeltaFormatError, match="frame 1 of values must state"):
        unpack_frames(payload, [16, 16])


def test_nothing_is_allocated_for_a_payload_that_is_too_short() -> None:
    first = with_length(frame(b"", stated=2 << 20, blocks=[run_block(b"\0", 1 << 17, last=False)] * 16))
    tracemalloc.start()
    with pytest.raises(DeltaFormatError, match="cut off in frame 1 of 65536"):
        unpack_frames(first, [2 << 20] * 65536)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20  # for 128 GiB of values
