"""Masks written and read by docs/FORMAT.md alone: in Python's whole numbers, no code shared."""

import bisect
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Vector = list[int]

OCTAVE = (4294967296, 3938502375, 3611622602, 3311872529, 3037000499, 2784941737, 2553802833, 2341847523)
LEADING = {"float64": (49, 14), "float32": (20, 11), "float16": (7, 8), "bfloat16": (4, 11)}
WIDTHS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}
COIN = [0, 2**23, 2**24]


class RefusedError(Exception):
    """The payload is none."""


@dataclass
class Model:
    offset: int = 0
    rows: Vector | None = None
    columns: Vector | None = None
    magnitudes: Vector | None = None
    first_magnitude: int = 0


@dataclass
class Base:
    bits: list[int]
    dtype: str


def odds(rate: int) -> int:
    octaves = rate // 8
    return OCTAVE[rate % 8] // 2**octaves if octaves > 0 else OCTAVE[rate % 8] * 2**-octaves


@functools.cache
def law(rate: int) -> list[int]:
    value = odds(rate)
    chance = 2**32 * value // (2**32 + value)
    limit = min(1024, (8 * (2**32 + value) + value - 1) // value)
    starts, survival = [], 2**60
    for gap in range(limit + 1):
        starts.append(gap + (2**24 - limit - 1) * (2**60 - survival) // 2**60)
        survival = survival * (2**32 - chance) // 2**32
    return [*starts, 2**24]


@functools.cache
def rate(ones: int, others: int) -> int:
    return next((r for r in range(-32, 129) if odds(r) * others <= ones * 2**32), 128)


class Coder:
    """Symbols in the order of reading."""

    def __init__(self) -> None:
        self.symbols: list[tuple[int, int]] = []

    def numbers(self, values: Sequence[int], starts: list[int]) -> None:
        limit = len(starts) - 2
        for value in values:
            for symbol in [limit] * (value // limit) + [value % limit]:
                self.symbols.append((starts[symbol], starts[symbol + 1] - starts[symbol]))

    def coins(self, values: Sequence[bool]) -> None:
        self.symbols += [(COIN[value], 2**23) for value in values]

    def words(self) -> bytes:
        state, words = 0, []
        for start, share in reversed(self.symbols):
            if state >= share * 2**40:
                words.append(state % 2**32)
                state //= 2**32
            state = state // share * 2**24 + start + state % share
        while state:
            words.append(state % 2**32)
            state //= 2**32
        return b"".join(word.to_bytes(4, "little") for word in words)


class Decoder:
    def __init__(self, data: bytes) -> None:
        if len(data) % 4 or data[-4:] == b"\0\0\0\0":
            raise RefusedError("words")
        self.words = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
        self.state = 0
        while self.words and self.state < 2**32:
            self.state = self.state * 2**32 + self.words.pop()

    def symbol(self, starts: list[int]) -> int:
        place = self.state % 2**24
        symbol = bisect.bisect_right(starts, place) - 1
        self.state = self.state // 2**24 * (starts[symbol + 1] - starts[symbol]) + place - starts[symbol]
        if self.words and self.state < 2**32:
            self.state = self.state * 2**32 + self.words.pop()
        return symbol

    def numbers(self, count: int, starts: list[int], room: int) -> list[int]:
        limit, values = len(starts) - 2, []
        for _ in range(count):
            value = 0
            while (symbol := self.symbol(starts)) == limit:
                value += limit
                if value > room:
                    raise RefusedError("room")
            values.append(value + symbol)
            room -= value + symbol
            if room < 0:
                raise RefusedError("room")
        return values

    def finish(self) -> None:
        if self.state or self.words:
            raise RefusedError("left over")


def matrix(shape: Sequence[int]) -> tuple[int, int]:
    return (shape[0], math.prod(shape[1:])) if len(shape) >= 2 else (1, math.prod(shape))


def classes(model: Model, shape: Sequence[int], base: Base | None) -> list[int]:
    rows, columns = matrix(shape)
    found = []
    for i in range(rows):
        for j in range(columns):
            y = model.offset + 40
            y += model.rows[i] if model.rows is not None else 0
            y += model.columns[j] if model.columns is not None else 0
            if model.magnitudes is not None:
                assert base is not None
                shift, kept = LEADING[base.dtype]
                leading = base.bits[i * columns + j] // 2**shift % 2**kept
                y += model.magnitudes[min(63, max(0, leading - model.first_magnitude))]
            found.append(min(63, max(0, y)))
    return found


def guess(number: int, weights: int) -> tuple[int, list[int]]:
    value = odds(min(128, 4 * abs(number - 40)))
    expected = weights * value // (value + 2**32)
    return expected, law(rate(1, 2 * math.isqrt(expected) + 1))


def encode(keep: Sequence[bool], shape: Sequence[int], model: Model, base: Base | None) -> bytes:
    if len(set(keep)) < 2:
        return b"\0"
    coder, head = Coder(), bytearray()
    head.append((model.rows is not None) + 2 * (model.columns is not None) + 4 * (model.magnitudes is not None))
    head.append(model.offset + 64)
    vectors = [vector for vector in (model.rows, model.columns) if vector is not None]
    if model.magnitudes is not None:
        head += model.first_magnitude.to_bytes(2, "little")
        vectors.append([b - a for a, b in zip([0, *model.magnitudes], model.magnitudes, strict=False)])
    for vector in vectors:
        places = [place for place, entry in enumerate(vector) if entry]
        rest = len(places)
        while rest > 127:
            head.append(rest % 128 + 128)
            rest //= 128
        head.append(rest)
        if places:
            sizes = [abs(vector[place]) - 1 for place in places]
            head.append(rate(len(places), sum(sizes)) + 32)
            gaps = [place - before - 1 for before, place in zip([-1, *places], places, strict=False)]
            coder.numbers(gaps, law(rate(len(places), len(vector) - len(places))))
            coder.numbers(sizes, law(head[-1] - 32))
            coder.coins([vector[place] < 0 for place in places])
    numbers = classes(model, shape, base)
    gaps_of: dict[int, list[int]] = {c: [] for c in sorted(set(numbers))}
    since = dict.fromkeys(gaps_of, 0)
    for number, kept in zip(numbers, keep, strict=True):
        if kept == (number >= 40):
            gaps_of[number].append(since[number])
            since[number] = 0
        else:
            since[number] += 1
    for number, gaps in gaps_of.items():
        expected, starts = guess(number, numbers.count(number))
        difference = len(gaps) - expected
        coder.numbers([2 * difference if difference >= 0 else -2 * difference - 1], starts)
    for number, gaps in gaps_of.items():
        if gaps:
            coder.numbers(gaps, law(rate(len(gaps), numbers.count(number) - len(gaps))))
    return bytes(head) + coder.words()


def decode(payload: bytes, shape: Sequence[int], zeros: int, base: Base | None) -> list[bool]:
    weights = math.prod(shape)
    if zeros in (0, weights):
        if payload != b"\0":
            raise RefusedError("one kind")
        return [zeros == 0] * weights
    data = iter(payload)

    def byte() -> int:
        nonlocal read
        read += 1
        value = next(data, None)
        if value is None:
            raise RefusedError("head")
        return value

    read = 0
    flags, offset = byte(), byte() - 64
    if flags > 7 or offset > 63:
        raise RefusedError("head")
    rows, columns = matrix(shape)
    model = Model(offset=offset)
    lengths = [rows] * (flags & 1) + [columns] * (flags // 2 & 1)
    if flags & 4:
        model.first_magnitude = byte() + 256 * byte()
        lengths.append(64)
    heads = []
    for length in lengths:
        filled, shift = 0, 1
        while (part := byte()) > 127:
            filled += (part - 128) * shift
            shift *= 128
        filled += part * shift
        if filled > length or (shift > 1 and not part):
            raise RefusedError("count")
        heads.append((length, filled, byte() - 32 if filled else 0))
        if heads[-1][2] > 128:
            raise RefusedError("rate")
    decoder = Decoder(payload[read:])
    vectors = []
    for index, (length, filled, sizes_rate) in enumerate(heads):
        vector = [0] * length
        if filled:
            largest = 62 if flags & 4 and index == len(heads) - 1 else 31
            gaps = decoder.numbers(filled, law(rate(filled, length - filled)), length - filled)
            sizes = decoder.numbers(filled, law(sizes_rate), filled * (largest - 1))
            place = -1
            for gap, size in zip(gaps, sizes, strict=True):
                place += gap + 1
                vector[place] = size + 1
                if size + 1 > largest:
                    raise RefusedError("step")
            for place in [place for place in range(length) if vector[place]]:
                vector[place] *= -1 if decoder.symbol(COIN) else 1
        vectors.append(vector)
    if flags & 1:
        model.rows = vectors.pop(0)
    if flags & 2:
        model.columns = vectors.pop(0)
    if flags & 4:
        total, model.magnitudes = 0, []
        for step in vectors.pop(0):
            total += step
            model.magnitudes.append(total)
        if max(map(abs, model.magnitudes)) > 31:
            raise RefusedError("magnitudes")
    numbers = classes(model, shape, base)
    present = sorted(set(numbers))
    coded, dropped = {}, 0
    for number in present:
        held = numbers.count(number)
        expected, starts = guess(number, held)
        (folded,) = decoder.numbers(1, starts, 2 * held)
        coded[number] = expected + (folded // 2 if folded % 2 == 0 else -(folded + 1) // 2)
        if not 0 <= coded[number] <= held:
            raise RefusedError("counts")
        dropped += coded[number] if number < 40 else held - coded[number]
    if dropped != zeros:
        raise RefusedError("zeros")
    keep = [number < 40 for number in numbers]
    for number in present:
        others = numbers.count(number) - coded[number]
        if coded[number]:
            gaps = decoder.numbers(coded[number], law(rate(coded[number], others)), others)
            members = [place for place in range(weights) if numbers[place] == number]
            rank = -1
            for gap in gaps:
                rank += gap + 1
                keep[members[rank]] = number >= 40
    decoder.finish()
    return keep
