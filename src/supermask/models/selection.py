"""The words that pick parameters: roles, groups of roles, blocks, roles in blocks, and patterns.

A selector is one of

- a role, in singular or plural, with hyphens or underscores: `key`, `keys`, `word-embeddings`;
- a group of roles: `matrices` (what attention and feed-forward layers multiply with), `attention`, `ffn`, `embeddings`,
  `encoder` (all but the head), `all`;
- a set of blocks, counted from the input and from 0: `block-3`, `blocks-0-3` (both ends included), `bottom-2-blocks`,
  `top-2-blocks` (the two deepest, furthest from the input). An encoder-decoder counts its encoder blocks first;
- any of the former two within the latter, `value@block-0`, `matrices@top-2-blocks`;
- a pattern over full parameter names, which is whatever contains `*`, `?`, `[` or `.`: `*.attention.*`,
  `classifier.weight`.

Several selectors together pick what any of them picks. Each must pick something: a selector without effect is an error
that says what there is, and all faults of a list are reported at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType

from supermask.errors import SelectionError
from supermask.models.roles import ParameterInfo, ParameterMap, Role
from supermask.settings import MATRICES

__all__ = ["GROUPS", "MATRICES", "MATRICES_IF_PRESENT", "select_parameters"]

_ATTENTION = (Role.QUERY, Role.KEY, Role.VALUE, Role.QUERY_KEY_VALUE, Role.ATTENTION_OUTPUT)
_FFN = (Role.FFN_IN, Role.FFN_GATE, Role.FFN_OUT)

GROUPS: Mapping[str, tuple[Role, ...]] = MappingProxyType(
    {
        "matrices": _ATTENTION + _FFN,
        "attention": _ATTENTION,
        "ffn": _FFN,
        "embeddings": (Role.WORD_EMBEDDING, Role.POSITION_EMBEDDING, Role.OTHER_EMBEDDING),
        "encoder": tuple(role for role in Role if role is not Role.HEAD),
        "all": tuple(Role),
    }
)
"""The roles of each group."""

MATRICES_IF_PRESENT: tuple[str, ...] = ("pooler",)
"""What of `MATRICES` not every architecture has: pass it as `optional`."""

_PLURALS = {Role.QUERY: "queries", Role.BIAS: "biases"}
_ROLE_WORDS: Mapping[str, Role] = {
    **{role.value: role for role in Role},
    **{_PLURALS.get(role, f"{role.value}s"): role for role in Role},
}
_GROUP_WORDS: Mapping[str, str] = {
    **{group: group for group in GROUPS},
    "matrix": "matrices",
    "embedding": "embeddings",
}

# What identity and type tell about any model; every other role needs the architecture's names.
_ROLES_OF_ANY_MODEL = frozenset({Role.WORD_EMBEDDING, Role.NORM, Role.BIAS, Role.HEAD})
_GROUPS_OF_ANY_MODEL = frozenset({"encoder", "all"})

_BLOCKS = re.compile(r"blocks?-(?P<first>\d+)(?:-(?P<last>\d+))?|(?P<end>top|bottom)-(?P<count>\d+)-blocks?")
_BLOCK_FORMS = "block-3, blocks-0-3, top-2-blocks or bottom-2-blocks"

_Test = Callable[[ParameterInfo], bool]


class _Fault(Exception):
    """What is wrong with one selector; `absent` if it is well formed but this model has nothing of the kind."""

    def __init__(self, text: str, *, absent: bool = False) -> None:
        super().__init__(text)
        self.absent = absent


def select_parameters(
    selectors: Sequence[str], parameter_map: ParameterMap, *, optional: Sequence[str] = ()
) -> tuple[str, ...]:
    """Name the parameters that any of the selectors picks.

    Args:
        selectors: What to pick, in the grammar of this module. Each must pick something.
        parameter_map: The parameters of the model.
        optional: Those of the selectors that may pick nothing because the model has nothing of the kind; they add
            nothing by themselves.

    Returns:
        Parameter names in model order, each once.

    Raises:
        SelectionError: If a selector is malformed or picks nothing (all such faults are reported together), or if the
            selection as a whole is empty.

    >>> from transformers import DistilBertConfig, DistilBertModel
    >>> from supermask.models import map_parameters
    >>> config = DistilBertConfig(vocab_size=50, dim=8, n_layers=2, n_heads=2, hidden_dim=16)
    >>> parameter_map = map_parameters(DistilBertModel(config))
    >>> select_parameters(["keys@top-1-blocks", "word-embeddings"], parameter_map)
    ('embeddings.word_embeddings.weight', 'transformer.layer.1.attention.k_lin.weight')
    >>> len(select_parameters(MATRICES, parameter_map, optional=MATRICES_IF_PRESENT))  # DistilBERT has no pooler
    12
    """
    for given in (selectors, optional):
        if isinstance(given, str):
            raise SelectionError(
                f"selectors must be a list of strings, but received the string '{given}'; write ['{given}']"
            )
    tolerated = {_normalised(selector) for selector in optional}
    picked: set[str] = set()
    faults: list[str] = []
    for selector in dict.fromkeys(selectors):
        try:
            picked.update(info.name for info in _pick(selector, parameter_map))
        except _Fault as fault:
            if not (fault.absent and _normalised(selector) in tolerated):
                faults.append(str(fault))
    if not faults and not picked:
        faults.append(
            f"the selection is empty: no selector was given that picks anything of {parameter_map.architecture}"
        )
    if faults:
        raise SelectionError(_sentence([*faults, _inventory(parameter_map)]))
    return tuple(info.name for info in parameter_map.infos if info.name in picked)


def _pick(selector: str, parameter_map: ParameterMap) -> list[ParameterInfo]:
    if not selector.strip():
        raise _Fault("a selector is empty")
    what, at, where = selector.strip().partition("@")
    if at:
        if not what:
            raise _Fault(f"'{selector}' has nothing before '@'; write ROLE@BLOCKS, as in value@block-0")
        blocks = _block_range(where, parameter_map)
        if blocks is None:
            raise _Fault(f"'{selector}' has no set of blocks after '@'; write {_BLOCK_FORMS} there")
        candidates = _matching(_test(what, parameter_map), parameter_map.infos)
        found = [info for info in candidates if info.block in blocks]
        if not found:
            raise _Fault(f"'{selector}' picks nothing: {where} holds nothing that '{what}' picks", absent=True)
        return found
    blocks = _block_range(what, parameter_map)
    if blocks is not None:
        return [info for info in parameter_map.infos if info.block in blocks]
    return _matching(_test(what, parameter_map), parameter_map.infos)


def _matching(test: _Test, infos: Iterable[ParameterInfo]) -> list[ParameterInfo]:
    return [info for info in infos if test(info)]


def _test(word: str, parameter_map: ParameterMap) -> _Test:
    """What decides whether a parameter is picked by a role, a group or a pattern; at least one is."""
    if re.search(r"[*?\[.]", word):
        return _pattern_test(word, parameter_map)
    roles = _roles(word, parameter_map)
    every = _GROUP_WORDS.get(_normalised(word)) in _GROUPS_OF_ANY_MODEL
    if not (present := roles & set(parameter_map.roles)) and not every:
        raise _Fault(_absence(word, roles, parameter_map), absent=True)
    # `encoder` and `all` are about all there is, so they also pick what has no role.
    return lambda info: info.role in present or (every and info.role is None)


def _pattern_test(pattern: str, parameter_map: ParameterMap) -> _Test:
    def test(info: ParameterInfo) -> bool:
        return any(fnmatchcase(name, pattern) for name in (info.name, *info.aliases))

    if not any(map(test, parameter_map.infos)):
        text = f"the pattern '{pattern}' matches no parameter of {parameter_map.architecture}"
        names = parameter_map.names
        if any(name.startswith(f"{pattern}.") for name in names):
            text += f"; did you mean {pattern}.*?"
        elif close := difflib.get_close_matches(pattern, names, n=1, cutoff=0.7):
            text += f"; did you mean {close[0]}?"
        raise _Fault(text, absent=True)
    return test


def _roles(word: str, parameter_map: ParameterMap) -> frozenset[Role]:
    normalised = _normalised(word)
    if role := _ROLE_WORDS.get(normalised):
        if not parameter_map.known and role not in _ROLES_OF_ANY_MODEL:
            raise _Fault(_unknown(word, parameter_map), absent=True)
        return frozenset({role})
    if group := _GROUP_WORDS.get(normalised):
        if not parameter_map.known and group not in _GROUPS_OF_ANY_MODEL:
            raise _Fault(_unknown(word, parameter_map), absent=True)
        return frozenset(GROUPS[group])
    text = f"'{word}' matches no role of {parameter_map.architecture}"
    spellings = {_normalised(spelling): spelling for spelling in _words(parameter_map)}
    if close := difflib.get_close_matches(normalised, spellings, n=1):
        text += f"; did you mean {spellings[close[0]]}?"
    raise _Fault(text)


def _words(parameter_map: ParameterMap) -> list[str]:
    """What a misspelt word may have been meant to be."""
    blocks = ["block-0", "top-1-blocks", "bottom-1-blocks"] if parameter_map.blocks else []
    return [*_ROLE_WORDS, *_GROUP_WORDS, *blocks]


def _block_range(word: str, parameter_map: ParameterMap) -> range | None:
    """The blocks that a word names, at least one; None if it is no set of blocks."""
    match = _BLOCKS.fullmatch(_normalised(word).replace("_", "-"))
    if match is None:
        return None
    model, blocks = parameter_map.architecture, parameter_map.blocks
    if not blocks:
        raise _Fault(f"'{word}' picks nothing: {model} has no blocks", absent=True)
    holds = f"{model} has {blocks} block{'s' if blocks > 1 else ''}, {_span(blocks)}"
    if match["count"] is not None:
        count = int(match["count"])
        if not 1 <= count <= blocks:
            raise _Fault(f"'{word}' asks for {count} block{'' if count == 1 else 's'}, but {holds}")
        return range(blocks - count, blocks) if match["end"] == "top" else range(count)
    first = int(match["first"])
    last = first if match["last"] is None else int(match["last"])
    if last < first:
        raise _Fault(f"'{word}' ends before it begins; write blocks-{last}-{first}")
    if last >= blocks:
        raise _Fault(f"'{word}' is outside the model: {holds}")
    return range(first, last + 1)


def _absence(word: str, roles: frozenset[Role], parameter_map: ParameterMap) -> str:
    text = f"'{word}' picks nothing: {parameter_map.architecture} has no such parameters"
    present = set(parameter_map.roles)
    if roles <= {Role.QUERY, Role.KEY, Role.VALUE} and Role.QUERY_KEY_VALUE in present:
        return f"{text}, because query, key and value are one matrix there, whose role is query_key_value"
    if roles == {Role.FFN_GATE} and Role.FFN_IN in present:
        return f"{text}; a gate that shares a matrix with the input has the role ffn_in"
    return text


def _unknown(word: str, parameter_map: ParameterMap) -> str:
    model_type = f" (model_type '{parameter_map.model_type}')" if parameter_map.model_type else ""
    patterns = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in parameter_map.unnamed)
    shown = ", ".join(f"'{pattern}'" for pattern in list(patterns)[:6]) + (", ..." if len(patterns) > 6 else "")
    return (
        f"'{word}' cannot be found by role: the architecture of {parameter_map.architecture}{model_type} is unknown; "
        f"select by pattern instead: {shown or 'a full parameter name'}"
    )


def _inventory(parameter_map: ParameterMap) -> str:
    parts = []
    if parameter_map.roles:
        parts.append(f"roles: {', '.join(role.value for role in parameter_map.roles)}")
    groups = [group for group in GROUPS if parameter_map.known or group in _GROUPS_OF_ANY_MODEL]
    parts.append(f"groups: {', '.join(groups)}")
    if parameter_map.blocks:
        parts.append(f"blocks: {_span(parameter_map.blocks)}")
    parts.append(f"or a pattern such as '{_example_pattern(parameter_map)}'")
    return "; ".join(parts)


def _span(blocks: int) -> str:
    return "0" if blocks == 1 else f"0-{blocks - 1}"


def _example_pattern(parameter_map: ParameterMap) -> str:
    """A pattern that matches something: what stands after the block's number in its first matrix, if there is one."""
    for info in parameter_map.infos:
        if info.block is not None and info.is_matrix:
            after_the_block = re.split(r"\.\d+\.", info.name)[-1].split(".")
            return f"*.{after_the_block[0]}.*"
    return f"*{parameter_map.names[0][-6:]}" if parameter_map.names else "*"


def _normalised(word: str) -> str:
    return word.strip().lower().replace("-", "_")


def _sentence(parts: Sequence[str]) -> str:
    text = parts[0]
    for part in parts[1:]:
        text += f" {part}" if text.endswith("?") else f"; {part}"
    return text
