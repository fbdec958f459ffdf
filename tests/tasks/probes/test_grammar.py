import random
from collections import Counter

import pytest

from supermask.errors import ConfigurationError
from supermask.tasks import Task
from supermask.tasks.probes.grammar import BySplit, Dice, Probe, draw_examples, sentence


def probe_of(draw_round):
    task = Task(name="probe-coin", kind="classification", label_names=("heads", "tails"), metrics=("accuracy",))
    return Probe(task=task, draw_round=draw_round, rows_per_round=2, content_words=BySplit(frozenset(), frozenset()))


def test_dice_are_the_promised_part_of_random():
    # What `printf 'coin\n7' | sha256sum` prints.
    promised = random.Random(0x123E5EAEA2580596B10FB9A5770DA7A0CECBD360BE347674B2F1BC205ADCF2DD)
    dice = Dice("coin", 7)
    assert [dice.below(10**6) for _ in range(50)] == [int(promised.random() * 10**6) for _ in range(50)]


def test_dice_cover_all_choices_evenly_and_a_sample_takes_no_position_twice():
    dice = Dice("even")
    counts = Counter(dice.pick("abcd") for _ in range(4000))
    assert set(counts) == set("abcd")
    assert all(850 < count < 1150 for count in counts.values())
    for _ in range(50):
        assert sorted(dice.sample(range(6), 6)) == [0, 1, 2, 3, 4, 5]
        assert len(set(dice.sample(range(6), 3))) == 3


def test_the_key_decides_the_sequence():
    def drawn(*key):
        dice = Dice(*key)
        return [dice.below(1000) for _ in range(20)]

    assert drawn("a", 1) == drawn("a", 1)
    assert drawn("a", 1) != drawn("a", 2) != drawn("b", 1)


def test_sentence_closes_gaps_and_commas():
    assert sentence("the cat", "", " was old , not new") == "The cat was old, not new."


def test_a_grammar_that_runs_out_says_so():
    def draw_round(dice, split):
        number = dice.below(3)
        return (f"heads {number}", None, 0), (f"tails {number}", None, 1)

    probe = probe_of(draw_round)
    assert sorted(draw_examples(probe, "dev", size=6, seed=0).first) == [
        f"{s} {n}" for s in ("heads", "tails") for n in "012"
    ]
    with pytest.raises(
        ConfigurationError, match="7 dev rows asked for, but its grammar has no new ones after 6; ask for fewer"
    ):
        draw_examples(probe, "dev", size=7, seed=0)


def test_a_round_that_repeats_itself_is_drawn_again():
    def draw_round(dice, split):
        return tuple((f"side {dice.below(50)}", None, label) for label in (0, 1))

    first = draw_examples(probe_of(draw_round), "train", size=30, seed=0).first
    assert len(set(first)) == 30
