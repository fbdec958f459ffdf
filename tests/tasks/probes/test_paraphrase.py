from collections import Counter

import pytest

from supermask.tasks.probes import load_probe
from supermask.tasks.probes.synonyms import AGENTS, OBJECTS, VERBS

from .surface import replaced

SLOTS = (AGENTS, VERBS, OBJECTS)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_pair_is_equivalent_when_all_its_replacements_are_synonyms(split):
    known = [{word: number for number, field in enumerate(slot[split]) for word in field} for slot in SLOTS]
    examples = load_probe("probe-paraphrase")[split]
    wrong_words = Counter()
    for first, second, label in zip(examples.first, examples.second, examples.labels, strict=True):
        wrong = sum(field[a] != field[b] for field, (a, b) in zip(known, replaced(first, second), strict=True))
        assert label == (wrong == 0)
        wrong_words[wrong] += 1
    # Half of the rows have none, the others one, two or three equally often.
    assert wrong_words[0] == len(examples) // 2
    assert all(wrong_words[count] > len(examples) // 9 for count in (1, 2, 3))
