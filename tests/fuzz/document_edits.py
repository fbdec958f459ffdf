"""Edits of a document that keep it JSON, and texts that are hardly JSON any more."""

import copy
import json
import math
import random
from collections.abc import Callable
from typing import Any

from fuzz.anatomy import PARTS, Anatomy

DocumentEdit = Callable[[random.Random, Anatomy], None]

NUMBERS = (0, 1, -1, 2, 7, 255, 1 << 31, 1 << 32, 1 << 34, (1 << 34) + 1, (1 << 53) - 1, 1 << 53, 1 << 63, 1 << 64)
STRINGS = (
    "",
    "large",
    "head.weight",
    "keep_mask",
    "dense_values",
    "sparse_values",
    "float32",
    "bfloat16",
    "bool",
    "raw",
    "shuffle",
    "sorted_difference",
    "a" * 1001,
    "\x00",
    "\x1b[2J",
    "\x9b2J",
    "\u202e",
    "\ud800",
    "ﬀ",
    "__metadata__",
    "../../etc",
    "0" * 64,
    "0" * 8,
)
KINDS = ("keep_mask", "dense_values", "sparse_values")
CODINGS = ("raw", "shuffle", "sorted_difference", "difference", "zip", None)
DTYPES = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "int8", "uint8", "bool", "complex64")


def anything(source: random.Random) -> Any:
    return source.choice(
        (
            source.choice(NUMBERS),
            -source.choice(NUMBERS),
            source.choice(STRINGS),
            float(source.choice(NUMBERS)),
            1e308,
            -0.0,
            0.5,
            True,
            False,
            None,
            [],
            {},
            [0] * 70,
            [[]],
            {"": 0},
        )
    )


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON tree: the container and the key or index."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in inner:
            found.append((node, key))
            waiting.append(value)
    return found


def edit_json(source: random.Random, tree: Any) -> None:
    """One edit anywhere in a JSON tree, in place."""
    found = places(tree)
    if not found:
        return
    node, key = source.choice(found)
    what = source.randrange(8)
    if what == 0:
        del node[key]
    elif what == 1 and isinstance(node, dict):
        node[source.choice(STRINGS)] = anything(source)
    elif what == 2 and isinstance(node, list):
        node.insert(key, copy.deepcopy(node[key]))
    elif what == 3:
        other, place = source.choice(found)
        node[key] = copy.deepcopy(other[place])
    elif what == 4 and isinstance(node[key], int):
        node[key] += source.choice((-2, -1, 1, 2))
    elif what == 5 and isinstance(node[key], str) and node[key]:
        place = source.randrange(len(node[key]))
        node[key] = node[key][:place] + source.choice(("", "0", "é", "\x7f", "/")) + node[key][place + 1 :]
    elif what == 6 and isinstance(node, dict) and isinstance(key, str):
        node[source.choice(STRINGS)] = node.pop(key)
    else:
        node[key] = anything(source)


def any_change(source: random.Random, anatomy: Anatomy) -> dict[str, Any]:
    change: dict[str, Any] = source.choice(anatomy.document["changes"])
    return change


def edit_anywhere(source: random.Random, anatomy: Anatomy) -> None:
    edit_json(source, anatomy.document)


def edit_change(source: random.Random, anatomy: Anatomy) -> None:
    edit_json(source, any_change(source, anatomy))


def reshape(source: random.Random, anatomy: Anatomy) -> None:
    """Another shape of as many weights."""
    change = any_change(source, anatomy)
    weights = math.prod(change["shape"])
    divisors = [number for number in range(1, min(weights, 100) + 1) if weights % number == 0] or [0]
    rows = source.choice(divisors)
    shape = [rows, weights // rows if rows else 0]
    source.shuffle(shape)
    change["shape"] = source.choice((shape, shape, [1, *shape], [weights], [1] * 65 + shape))


def resize(source: random.Random, anatomy: Anatomy) -> None:
    change = any_change(source, anatomy)
    if change["shape"]:
        place = source.randrange(len(change["shape"]))
        change["shape"][place] = source.choice((0, 1, 2, change["shape"][place] + source.choice((-1, 1)), 1 << 20))


def claim_much(source: random.Random, anatomy: Anatomy) -> None:
    """Up to 2^34 weights, with as few bytes as there are."""
    change = any_change(source, anatomy)
    exponent = source.randint(10, 35)
    left = source.randint(0, exponent)
    change["shape"] = [1 << left, 1 << exponent - left]
    if "zeros" in change:
        change["zeros"] = source.choice((change["zeros"], 0, 1, 1 << exponent - 1, (1 << exponent) - 1, 1 << exponent))
    name = f"{change['name']}:keep"
    if name in anatomy.payloads and source.random() < 0.5:
        anatomy.payloads[name] = source.choice((b"", b"\0", b"\1", b"\0\x68", b"\4\x68\0\0\0"))


def recount(source: random.Random, anatomy: Anatomy) -> None:
    """Another number of zeros."""
    change = any_change(source, anatomy)
    weights = math.prod(change["shape"])
    zeros = change.get("zeros", 0)
    change["zeros"] = source.choice((zeros - 1, zeros + 1, 0, weights, weights - zeros, weights // 2, weights + 1))


def rekind(source: random.Random, anatomy: Anatomy) -> None:
    """Another kind, dtype or coding, or fields of another kind."""
    change = any_change(source, anatomy)
    what = source.randrange(4)
    if what == 0:
        change["kind"] = source.choice(KINDS)
    elif what == 1:
        change["dtype"] = source.choice(DTYPES)
    elif what == 2:
        change["values_coding"] = source.choice(CODINGS)
    else:
        change[source.choice(("keep_nbytes", "values_nbytes", "zeros"))] = source.choice(NUMBERS)


def rename(source: random.Random, anatomy: Anatomy) -> None:
    """The changes of two tensors exchanged, or one moved to another tensor of the base; payloads go with them."""
    document, old = anatomy.document, any_change(source, anatomy)
    names = [*document["base"]["tensors"], *document["head"], source.choice(STRINGS)]
    was, new = old["name"], source.choice(names)
    exchanged = {was: new, new: was}
    for change in document["changes"]:
        change["name"] = exchanged.get(change["name"], change["name"])
    anatomy.payloads = {
        f"{exchanged.get(name.rpartition(':')[0], name.rpartition(':')[0])}:{name.rpartition(':')[2]}": data
        for name, data in anatomy.payloads.items()
    }


def repeat_change(source: random.Random, anatomy: Anatomy) -> None:
    changes = anatomy.document["changes"]
    changes.insert(source.randrange(len(changes) + 1), copy.deepcopy(source.choice(changes)))


def drop_change(source: random.Random, anatomy: Anatomy) -> None:
    """Fewer changes, the payload left or taken along: smaller deltas are well-formed ones."""
    changes = anatomy.document["changes"]
    gone = changes.pop(source.randrange(len(changes)))
    if source.random() < 0.8:
        for part in PARTS:
            anatomy.payloads.pop(f"{gone['name']}:{part}", None)
    if gone["name"] in anatomy.document["head"] and source.random() < 0.8:
        anatomy.document["head"].remove(gone["name"])


def reorder(source: random.Random, anatomy: Anatomy) -> None:
    """The changes in another order, their payloads with them or not."""
    source.shuffle(anatomy.document["changes"])
    if source.random() < 0.5:
        names = [f"{change['name']}:{part}" for change in anatomy.document["changes"] for part in PARTS]
        anatomy.payloads = {name: anatomy.payloads[name] for name in names if name in anatomy.payloads}


def retell(source: random.Random, anatomy: Anatomy) -> None:
    """What is for the reader alone: a well-formed other delta."""
    section = source.choice(("method", "task", "training"))
    anatomy.document[section][source.choice((*STRINGS[:10], "name", "kind", "steps", "notes"))] = anything(source)


def rebase(source: random.Random, anatomy: Anatomy) -> None:
    """Another base."""
    base = anatomy.document["base"]
    what = source.randrange(4)
    if what == 0:
        base["digest"] = f"{source.getrandbits(256):064x}"
    elif what == 1:
        base["tensors"][source.choice(list(base["tensors"]))] = f"{source.getrandbits(32):08x}"
    elif what == 2:
        base["tensors"].pop(source.choice(list(base["tensors"])))
    else:
        base["tensors"][source.choice(STRINGS)] = "0" * 8


DOCUMENT_EDITS: tuple[DocumentEdit, ...] = (
    edit_anywhere,
    edit_change,
    edit_change,
    reshape,
    resize,
    claim_much,
    recount,
    rekind,
    rename,
    repeat_change,
    drop_change,
    reorder,
    retell,
    rebase,
)


def odd_text(source: random.Random, document: Any) -> bytes:
    """A document's text, strange in a way that no JSON tree can be."""
    text = json.dumps(document, ensure_ascii=source.random() < 0.5).encode("utf-8", "surrogatepass")
    deep = source.choice((50, 199, 300, 5000, 100_000))
    inside = source.choice(
        (
            b'"training":{},',
            b'"method":{"a":NaN},',
            b'"method":{"a":-Infinity},',
            b'"method":{"a":1e999},',
            b'"method":{"a":' + b"9" * source.choice((20, 4300, 5000)) + b"},",
            b'"method":{"a":' + b"[" * deep + b"]" * deep + b"},",
            b'"x":' + b'{"a":' * deep + b"1" + b"}" * deep + b",",
            b'"method":{"a":"\xff\xfe"},',
            b'"method":{"a":"\\ud800"},',
            b'"method":{"a":01},',
            b"'training':{},",
            b'"x":[' + b"0," * source.choice((10, 10_000)) + b"0],",
            b"/* */",
            b"\x00",
            b"",
        )
    )
    before, after = source.choice(((b"", b""), (b"\xef\xbb\xbf", b""), (b" " * 9, b"\n"), (b"", b"{}"), (b"", b"\0")))
    if source.random() < 0.2:  # a second copy of a key that is there already
        key = source.choice(list(document))
        inside = json.dumps({key: document[key]}).encode("utf-8", "surrogatepass")[1:-1] + b","
    return before + b"{" + inside + text[1:] + after
