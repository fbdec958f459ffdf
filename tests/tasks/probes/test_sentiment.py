from collections import Counter

import pytest

from supermask.tasks.probes import load_probe, sentiment

from .surface import tokens


def polarity_by_reading(text, praise, blame):
    """1 for praise, 0 for blame: the judgement that the sentence ends up with, reading its words from left to right."""
    said = []
    denied = conceded = False
    for word in tokens(text):
        if word == "although":
            conceded = True
        elif word == "but" and denied:
            # "anything but", or "not ... but".
            denied = said == []
        elif word == "but":
            # "... , but ...": what came before is outweighed.
            said = []
        elif word in ("not", "anything"):
            denied = True
        elif word == ",":
            denied = conceded = False
        elif word in praise | blame and not conceded:
            said.append((word in praise) != denied)
    assert len(set(said)) == 1, text
    return int(said[0])


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_label_is_the_polarity_in_the_end(split):
    praise, blame = frozenset(sentiment._PRAISE[split]), frozenset(sentiment._BLAME[split])
    examples = load_probe("probe-sentiment")[split]
    for text, label in zip(examples.first, examples.labels, strict=True):
        assert polarity_by_reading(text, praise, blame) == label, text


def test_praise_and_blame_stand_under_both_labels():
    examples = load_probe("probe-sentiment", train_size=6000)["train"]
    counts = Counter()
    for text, label in zip(examples.first, examples.labels, strict=True):
        for word in tokens(text):
            counts[word in sentiment._PRAISE.train, word in sentiment._BLAME.train, label] += 1
    for praise, blame in ((True, False), (False, True)):
        mostly, seldom = sorted((counts[praise, blame, 0], counts[praise, blame, 1]), reverse=True)
        assert 1.1 < mostly / seldom < 2.5


def test_no_word_has_two_polarities_or_two_splits():
    groups = (sentiment._PRAISE, sentiment._BLAME, sentiment._THINGS)
    words = [word for group in groups for word in group.train + group.dev]
    assert len(set(words)) == len(words)
    assert min(len(group) for group in (*vars(sentiment._PRAISE).values(), *vars(sentiment._BLAME).values())) >= 60
