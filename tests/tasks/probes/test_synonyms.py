from collections import Counter

import pytest

from supermask.tasks.probes import synonyms
from supermask.tasks.probes.grammar import Dice, fields, flatten

SLOTS = {name: getattr(synonyms, name) for name in synonyms.__all__ if name.isupper()}


def test_no_word_stands_in_two_fields_slots_or_splits():
    counts = Counter(word for slot in SLOTS.values() for word in flatten(slot.train) + flatten(slot.dev))
    assert [word for word, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("name", SLOTS)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_every_field_has_synonyms_and_every_slot_many_fields(name, split):
    assert min(len(field) for field in SLOTS[name][split]) >= 2
    assert len(SLOTS[name][split]) >= 15


def test_a_substitution_stays_in_one_field_or_takes_two():
    slot = fields("big large huge | old aged | wet damp")
    field_of = {word: number for number, field in enumerate(slot) for word in field}
    dice = Dice("substitution")
    for _ in range(200):
        first, second = synonyms.substitution(dice, slot, synonyms=True)
        assert first != second and field_of[first] == field_of[second]
        first, second = synonyms.substitution(dice, slot, synonyms=False)
        assert field_of[first] != field_of[second]
