from collections import Counter

import pytest

from supermask.tasks.probes import entailment, load_probe

from .surface import replaced, tokens


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_class_follows_from_category_and_property(split):
    category_of = {word: group[0] for group in entailment._CATEGORIES[split] for word in group}
    property_of = {word: group[0] for group in entailment._PROPERTIES[split] for word in group}
    examples = load_probe("probe-entailment")[split]
    synonymous_contradictions = 0
    for first, second, label in zip(examples.first, examples.second, examples.labels, strict=True):
        (trait, new_trait), (noun, category) = replaced(first, second)
        assert category_of[category] == category != noun
        same_category = category_of[noun] == category
        same_property = property_of[trait] == property_of[new_trait]
        relation = ("entailment" if same_property else "neutral") if same_category else "contradiction"
        assert entailment.ENTAILMENT.task.label_names[label] == relation
        synonymous_contradictions += same_property and not same_category
    share = synonymous_contradictions / (len(examples) / 3)
    assert 0.35 < share < 0.65


def test_the_second_sentence_alone_tells_nothing():
    examples = load_probe("probe-entailment", train_size=6000)["train"]
    counts = Counter()
    for second, label in zip(examples.second, examples.labels, strict=True):
        counts.update((word, label) for word in set(tokens(second)))
    frequent = {word for word, _ in counts if sum(counts[word, label] for label in range(3)) >= 300}
    assert len(frequent) >= 30
    for word in frequent:
        of_word = [counts[word, label] for label in range(3)]
        assert max(of_word) / sum(of_word) < 0.45, word


def test_no_word_belongs_to_two_groups():
    for groups in (entailment._CATEGORIES, entailment._PROPERTIES):
        words = [word for split in (groups.train, groups.dev) for group in split for word in group]
        assert len(set(words)) == len(words)
