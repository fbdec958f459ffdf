from __future__ import annotations

import pytest

from supermask.tasks.probes import load_probe
from supermask.tasks.probes.synonyms import AGENT_TRAITS, AGENTS, OBJECT_TRAITS, OBJECTS, VERBS

from .surface import tokens

SLOTS = (AGENT_TRAITS, AGENTS, VERBS, OBJECT_TRAITS, OBJECTS)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_score_is_the_number_of_synonyms_among_five_replacements(split):
    fields = [{word: number for number, field in enumerate(slot[split]) for word in field} for slot in SLOTS]
    examples = load_probe("probe-similarity")[split]
    for first, second, score in zip(examples.first, examples.second, examples.labels, strict=True):
        replaced = [(a, b) for a, b in zip(tokens(first), tokens(second), strict=True) if a != b]
        assert len(replaced) == 5
        assert score == sum(fields[i][a] == fields[i][b] for i, (a, b) in enumerate(replaced))


def test_each_place_keeps_its_meaning_equally_often():
    fields = [{word: number for number, field in enumerate(slot.train) for word in field} for slot in SLOTS]
    examples = load_probe("probe-similarity", train_size=3000)["train"]
    kept = [0] * 5
    for first, second in zip(examples.first, examples.second, strict=True):
        replaced = [(a, b) for a, b in zip(tokens(first), tokens(second), strict=True) if a != b]
        for i, (a, b) in enumerate(replaced):
            kept[i] += fields[i][a] == fields[i][b]
    # Half of 3000 rows, give or take four standard errors.
    assert all(1390 < count < 1610 for count in kept)
