import pytest

from supermask.tasks.probes import load_probe
from supermask.tasks.probes.synonyms import AGENT_TRAITS, AGENTS, OBJECT_TRAITS, OBJECTS, VERBS

from .surface import replaced

SLOTS = (AGENT_TRAITS, AGENTS, VERBS, OBJECT_TRAITS, OBJECTS)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_score_is_the_number_of_synonyms_among_five_replacements(split):
    fields = [{word: number for number, field in enumerate(slot[split]) for word in field} for slot in SLOTS]
    examples = load_probe("probe-similarity", train_size=3000)[split]
    kept = [0] * 5
    for first, second, score in zip(examples.first, examples.second, examples.labels, strict=True):
        same = [field[a] == field[b] for field, (a, b) in zip(fields, replaced(first, second), strict=True)]
        assert score == sum(same)
        kept = [count + one for count, one in zip(kept, same, strict=True)]
    # Each place keeps its meaning in half of the rows, give or take four standard errors.
    assert all(abs(count - len(examples) / 2) < 4 * (len(examples) / 4) ** 0.5 for count in kept)
