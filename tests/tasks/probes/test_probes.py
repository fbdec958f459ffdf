import dataclasses
from collections import Counter

import pytest

from supermask.errors import ConfigurationError, UnknownNameError
from supermask.tasks.probes import DEV_SIZE, LARGEST_SIZE, PROBES, TRAIN_SIZE, load_probe
from supermask.tasks.probes.acceptability import ACCEPTABILITY
from supermask.tasks.probes.entailment import ENTAILMENT
from supermask.tasks.probes.grammar import words
from supermask.tasks.probes.paraphrase import PARAPHRASE
from supermask.tasks.probes.sentiment import SENTIMENT
from supermask.tasks.probes.similarity import SIMILARITY

from .surface import surface_score, tokens

NAMES = [task.name for task in PROBES]
GRAMMARS = {probe.task.name: probe for probe in (ACCEPTABILITY, SENTIMENT, PARAPHRASE, SIMILARITY, ENTAILMENT)}
CHANCE = {
    **dict.fromkeys(("probe-acceptability", "probe-sentiment", "probe-paraphrase"), 0.5),
    "probe-similarity": 0.0,
    "probe-entailment": 1 / 3,
}

# Words without content of their own: the only ones that both splits may have.
FUNCTION_WORDS = frozenset(
    words(
        "above again all although and anything are behind below beside but every had has have her here his is it "
        "just my near never not now often once only our over quite rather really she simply so some that the their "
        "then there these this too truly us very was we what will with your"
    )
)

# Version, and half the SHA-256 of train and dev at default sizes and seed 0. Other rows need another version.
GOLDEN = {
    "probe-acceptability": (1, "a0ee96fc38a59df69cc64a58ce1170da", "feb6b8dde1e0ed431bd0d47e2b058bef"),
    "probe-sentiment": (1, "b7b58d447cf5bc338ef186ed40c3426e", "125881fea089b51efb2cf2d8d47c9332"),
    "probe-paraphrase": (1, "bade4401782294a260af5e8e671e4ff2", "d43c5581fdee25c8c0a168c34c0fcf8d"),
    "probe-similarity": (1, "2e4a96da4aceb945a8b73cde7f1830e6", "fe5c5b0a59513b45b5844cd39c8414f0"),
    "probe-entailment": (1, "8f0f8074f7dc8233a90d7a3623b236f8", "109e414bea75d9393e02f974fda84bc3"),
}


def rows(examples):
    second = examples.second or (None,) * len(examples)
    return list(zip(examples.first, second, strict=True))


def used_words(examples):
    return {word for first, second in rows(examples) for word in tokens(f"{first} {second or ''}") if word != ","}


def test_there_is_one_probe_in_each_shape_of_glue():
    shapes = {(task.kind, task.num_labels, task.paired, task.metrics) for task in PROBES}
    assert shapes == {
        ("classification", 2, False, ("matthews", "accuracy")),
        ("classification", 2, False, ("accuracy",)),
        ("classification", 2, True, ("f1", "accuracy")),
        ("regression", 1, True, ("spearman", "pearson")),
        ("classification", 3, True, ("accuracy",)),
    }


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_the_same_everywhere_and_always_in_their_default_sizes_and_balanced(name):
    data = load_probe(name)
    assert (data.task.version, *(found[:32] for found in data.content_hashes.values())) == GOLDEN[name]
    assert {split: len(examples) for split, examples in data.splits.items()} == {"train": TRAIN_SIZE, "dev": DEV_SIZE}
    for examples in data.splits.values():
        assert len(set(Counter(examples.labels).values())) == 1
        assert len(Counter(examples.labels)) == (6 if data.task.regression else data.task.num_labels)


@pytest.mark.parametrize("name", NAMES)
def test_odd_sizes_are_honoured_and_balanced_to_one_row(name):
    data = load_probe(name, train_size=101, dev_size=31)
    assert (len(data["train"]), len(data["dev"])) == (101, 31)
    for examples in data.splits.values():
        counts = Counter(examples.labels).values()
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_size_is_reached_without_a_duplicate(name):
    data = load_probe(name, train_size=LARGEST_SIZE, dev_size=LARGEST_SIZE)
    everything = rows(data["train"]) + rows(data["dev"])
    assert len(set(everything)) == len(everything) == 2 * LARGEST_SIZE


@pytest.mark.parametrize("name", NAMES)
def test_content_words_of_the_splits_are_disjoint(name):
    content = GRAMMARS[name].content_words
    assert not content.train & content.dev
    assert not (content.train | content.dev) & FUNCTION_WORDS
    data = load_probe(name, train_size=4000, dev_size=4000)
    train, dev = used_words(data["train"]), used_words(data["dev"])
    assert train - FUNCTION_WORDS == content.train
    assert dev - FUNCTION_WORDS == content.dev
    assert train & dev <= FUNCTION_WORDS


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_seeds_change_what_they_say(name):
    small, large = load_probe(name, train_size=60, dev_size=30), load_probe(name, train_size=300, dev_size=30)
    assert small["train"].content_hash == large["train"].take(60).content_hash, "a larger split begins with a smaller"
    assert small["dev"].content_hash == large["dev"].content_hash, "and leaves the other alone"
    one, two = load_probe(name, seed=1), load_probe(name, seed=2)
    for split in ("train", "dev"):
        assert one[split].content_hash != two[split].content_hash
        assert used_words(two[split]) <= GRAMMARS[name].content_words[split] | FUNCTION_WORDS


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_surface_features_stay_near_chance(name, seed):
    data = load_probe(name, dev_size=1998, seed=seed)
    # Four standard errors of an accuracy at 1998 rows are 0.045; of a correlation, 0.09.
    tolerance = 0.09 if data.task.regression else 0.045
    assert abs(surface_score(data["train"], data["dev"]) - CHANCE[name]) < tolerance


@pytest.mark.parametrize("name", NAMES)
def test_the_surface_check_sees_a_leak_when_there_is_one(name):
    data = load_probe(name)

    def leaking(examples):
        marked = tuple(
            f"{text} Indeed." if label > 0 else text
            for text, label in zip(examples.first, examples.labels, strict=True)
        )
        return dataclasses.replace(examples, first=marked)

    assert surface_score(leaking(data["train"]), leaking(data["dev"])) > CHANCE[name] + 0.15


def test_every_row_names_its_origin():
    examples = load_probe("probe-sentiment", seed=3)["dev"]
    assert examples.source == "probe-sentiment version 1, dev, seed 3 (generated)"
    assert examples.ids[:3] == ("0", "1", "2")


@pytest.mark.parametrize("size", [0, -5, 1, 2.5, "100", None, True])
def test_a_bad_size_is_refused_and_all_faults_are_told_at_once(size):
    with pytest.raises(ConfigurationError, match="train_size must be an integer from 2"):
        load_probe("probe-sentiment", train_size=size)
    with pytest.raises(ConfigurationError) as caught:
        load_probe("probe-entailment", train_size=size, dev_size=LARGEST_SIZE + 1, seed="0")
    message = str(caught.value)
    assert f"train_size must be an integer from 3 (one row for each label) to 10000, received {size!r}" in message
    assert "dev_size must be an integer from 3 (one row for each label) to 10000, received 10001" in message
    assert "seed must be an integer, received '0'" in message


def test_an_unknown_probe_is_refused_with_the_names_there_are():
    with pytest.raises(
        UnknownNameError, match=r"did you mean 'probe-sentiment'\?.*probe-acceptability, probe-sentiment"
    ):
        load_probe("probe-sentimant")
