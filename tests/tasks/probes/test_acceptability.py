from collections import Counter

import pytest

from supermask.tasks.probes import acceptability, load_probe

from .surface import tokens


def readings(split):
    """What each form is: singular, plural, base, third person, past (of any verb), or trait."""
    found = {}
    for singular, plural in acceptability._NOUNS[split]:
        found[singular], found[plural] = "singular", "plural"
    for base, third, past in acceptability._VERBS[split]:
        found[base], found[third], found[past] = "base", "third", "past"
    for base, past in acceptability._REGULAR_VERBS[split]:
        found[base], found[past] = "base", "past"
    return found | dict.fromkeys(acceptability._TRAITS[split], "trait")


def acceptable(text, kinds):
    """Whether a sentence of the probe's kind is English, judged from its words and not from how it was made."""
    words = tokens(text)
    subject, number = words[1], kinds.get(words[1])
    if number not in ("singular", "plural"):
        return False  # "The arrive is old."
    if words[0] in ("this", "these") and (words[0] == "these") != (number == "plural"):
        return False
    # The first verb ends the noun phrase; the nouns within it do not count.
    for position, word in enumerate(words[2:], start=2):
        kind = kinds.get(word)
        if word in ("is", "are"):
            return (word == "are") == (number == "plural") and kinds.get(words[position + 1]) == "trait"
        if word in ("will", "had"):
            return kinds[words[position + 1]] == {"will": "base", "had": "past"}[word]
        if kind in ("base", "third"):
            return (kind == "base") == (number == "plural")
        if kind == "past":
            return True
    raise AssertionError(f"no verb after {subject!r} in {text!r}")


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_label_is_whether_the_sentence_is_english(split):
    kinds = readings(split)
    examples = load_probe("probe-acceptability")[split]
    for text, label in zip(examples.first, examples.labels, strict=True):
        assert acceptable(text, kinds) == label, text


def test_every_form_stands_in_both_classes():
    examples = load_probe("probe-acceptability", train_size=10_000)["train"]
    counts = Counter()
    for text, label in zip(examples.first, examples.labels, strict=True):
        counts.update((word, label) for word in tokens(text))
    for word, kind in readings("train").items():
        good, bad = counts[word, 1], counts[word, 0]
        assert good + bad >= 10, word
        # Five standard errors of a fair coin.
        assert abs(good - bad) < 5 * (good + bad) ** 0.5, (word, kind)


def test_no_form_belongs_to_two_words():
    groups = (acceptability._NOUNS, acceptability._VERBS, acceptability._REGULAR_VERBS)
    words = [word for group in groups for split in (group.train, group.dev) for forms in split for word in forms]
    words += acceptability._TRAITS.train + acceptability._TRAITS.dev
    assert [word for word, count in Counter(words).items() if count > 1] == []
