"""`probe-sentiment`: what the speaker thinks in the end, said plainly, with a negation, or against a concession.

Every sentence judges one or two things in one of ten shapes (`+` has the labelled polarity, `-` the opposite one):

    The film was really +.                              The film was not - but +.
    The film was + and +.                               The film was +, not -.
    The film was +, and the cast was +.                 Although the film was -, the cast was really +.
    The film was not -.                                 The film was -, but the cast was really +.
    The film was anything but -.                        The film was really + although the cast was -.

Both labels have each shape equally often with the same function words, so only the polarity of the words tells the
label, and in all shapes but the first three only together with the shape: what is praise in one row is denied or
outweighed in another. The polarity words and the things judged in dev do not occur in train. Chance is an accuracy of
0.5.
"""

from __future__ import annotations

from typing import Final

from supermask.tasks.probes.grammar import BySplit, Dice, Probe, Row, Split, sentence, words
from supermask.tasks.task import Task

__all__ = ["SENTIMENT"]

_PRAISE: Final = BySplit(
    train=words(
        "excellent wonderful charming amazing magnificent beautiful perfect enjoyable terrific impressive exciting "
        "fascinating funny smart elegant moving refreshing pleasant entertaining gripping sublime great nice "
        "incredible dazzling adorable appealing comforting crisp dynamic energetic fresh generous heroic ideal "
        "innovative intelligent intriguing magical playful positive promising radiant rich sparkling spirited strong "
        "superior triumphant vibrant welcoming worthy finest beneficial acclaimed admired praised fulfilling sincere "
        "accomplished talented handsome satisfying thoughtful"
    ),
    dev=words(
        "superb brilliant delightful fantastic marvelous splendid gorgeous lovely fabulous outstanding remarkable "
        "thrilling stunning hilarious witty clever graceful touching inspiring engaging compelling memorable "
        "exquisite sweet good fine cool awesome glorious divine polished amusing astonishing cheerful creative "
        "delicious effective exceptional extraordinary friendly genuine gifted helpful honest imaginative immaculate "
        "inspired interesting inviting lively luxurious majestic noble pleasing powerful reliable romantic soothing "
        "spectacular stellar successful tremendous wise flawless attractive celebrated respected competent valuable "
        "pretty"
    ),
)

_BLAME: Final = BySplit(
    train=words(
        "terrible horrible bad boring bland silly pathetic nasty miserable annoying lame horrific bleak painful "
        "unpleasant vile filthy messy awkward careless hollow stale pointless worthless absurd dumb humiliating rude "
        "brutal bitter grotesque insane confused chaotic catastrophic failed faulty defective ineffective unhappy "
        "unreliable unnecessary troubled wicked terrifying sinister disturbing evil fake fraudulent hated ignorant "
        "lifeless mean mundane oppressive petty repetitive sick superficial unwanted vicious lacking despised "
        "meaningless poisonous inappropriate"
    ),
    dev=words(
        "awful dreadful poor dull stupid ridiculous disgusting ugly disappointing irritating frustrating weak "
        "inferior sad unbearable offensive foul dirty clumsy sloppy crude shallow empty useless hopeless foolish "
        "embarrassing insulting cruel harsh sour grim hideous crazy confusing disastrous tragic flawed broken "
        "inadequate unfair unfortunate uncomfortable toxic trivial threatening rotten dire dubious frightening "
        "greedy hostile immature lazy menacing negative outrageous predictable questionable selfish suspicious "
        "tortured vague vulgar ruined corrupt irrelevant wasted harmful"
    ),
)

_THINGS: Final = BySplit(
    train=words(
        "film story song concert opera painting poem performance plot ending music cast comedy episode documentary "
        "lecture essay camera museum festival script dialogue musical speech soundtrack drama"
    ),
    dev=words(
        "restaurant meal hotel service dinner soup room staff view beach trip game phone car party wine coffee "
        "dessert menu breakfast tour guide garden flight apartment shop"
    ),
)

_DEGREES: Final = words("really very quite so truly rather just simply")

# {verdict} and {and_so} have the polarity of the label, {opposite} has the other one.
_SHAPES: Final = (
    "the {thing} was {degree} {verdict}",
    "the {thing} was {verdict} and {and_so}",
    "the {thing} was {verdict} , and the {second} was {and_so}",
    "the {thing} was not {opposite}",
    "the {thing} was anything but {opposite}",
    "the {thing} was not {opposite} but {verdict}",
    "the {thing} was {verdict} , not {opposite}",
    "although the {thing} was {opposite} , the {second} was {degree} {verdict}",
    "the {thing} was {opposite} , but the {second} was {degree} {verdict}",
    "the {thing} was {degree} {verdict} although the {second} was {opposite}",
)


def _draw_round(dice: Dice, split: Split) -> tuple[Row, ...]:
    shape, degree = dice.pick(_SHAPES), dice.pick(_DEGREES)
    polarities = (_BLAME[split], _PRAISE[split])
    rows = []
    for label in (0, 1):
        thing, second = dice.sample(_THINGS[split], 2)
        verdict, and_so = dice.sample(polarities[label], 2)
        opposite = dice.pick(polarities[1 - label])
        text = shape.format(
            thing=thing, second=second, degree=degree, verdict=verdict, and_so=and_so, opposite=opposite
        )
        rows.append((sentence(text), None, label))
    return tuple(rows)


SENTIMENT: Final = Probe(
    task=Task(
        name="probe-sentiment",
        title="Probe: polarity of the final judgement",
        kind="classification",
        label_names=("negative", "positive"),
        metrics=("accuracy",),
    ),
    draw_round=_draw_round,
    rows_per_round=2,
    content_words=BySplit(
        train=frozenset(_PRAISE.train + _BLAME.train + _THINGS.train),
        dev=frozenset(_PRAISE.dev + _BLAME.dev + _THINGS.dev),
    ),
)
