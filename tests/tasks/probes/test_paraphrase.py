from __future__ import annotations

from collections import Counter

import pytest

from supermask.tasks.probes import load_probe
from supermask.tasks.probes.synonyms import AGENTS, OBJECTS, VERBS

from .surface import tokens

SLOTS = (AGENTS, VERBS, OBJECTS)


def field_of(slot, split):
    return {word: number for number, field in enumerate(slot[split]) for word in field}


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_pair_is_equivalent_when_all_its_replacements_are_synonyms(split):
    known = [field_of(slot, split) for slot in SLOTS]
    examples = load_probe("probe-paraphrase")[split]
    wrong_words = Counter()
    for first, second, label in zip(examples.first, examples.second, examples.labels, strict=True):
        one, two = tokens(first), tokens(second)
        assert len(one) == len(two)
        replaced = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
        assert len(replaced) == 3
        wrong = sum(known[i][a] != known[i][b] for i, (a, b) in enumerate(replaced))
        assert label == (wrong == 0)
        wrong_words[wrong] += 1
    # Half of the rows have none, the others one, two or three equally often.
    assert wrong_words[0] == len(examples) // 2
    assert all(wrong_words[count] > len(examples) // 9 for count in (1, 2, 3))
