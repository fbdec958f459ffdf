"""`probe-entailment`: does the second sentence follow from the first, is it open, or is it excluded?

    It was the filthy goose.  |  It was the dirty bird.         entailment: a goose is a bird, filthy is dirty
    It was the filthy goose.  |  It was the dangerous bird.     neutral: the property may hold or not
    It was the filthy goose.  |  It was the dirty weapon.       contradiction: no goose is a weapon
    It was the filthy goose.  |  It was the valuable weapon.    contradiction

In all classes the noun of the second sentence names a category and both content words differ from those of the first.
Entailment has the noun's own category and a synonym of the property; neutral its category and an unrelated property,
never a synonym or opposite; a contradiction has a category that excludes the noun, with a synonym and an unrelated
property equally often. So neither sentence alone, nor any count of common words, tells the class. Nouns, categories and
properties of dev do not occur in train. Chance is an accuracy of 0.333.
"""

from __future__ import annotations

from typing import Final

from supermask.tasks.probes.grammar import BySplit, Dice, Fields, Probe, Row, Split, fields, flatten, sentence
from supermask.tasks.probes.synonyms import substitution
from supermask.tasks.task import Task

__all__ = ["ENTAILMENT"]

_ENTAILMENT, _NEUTRAL, _CONTRADICTION = 0, 1, 2

# The first word of a group is the category, the others are its members; the categories of a split exclude each other.
_CATEGORIES: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "animal dog cat horse cow pig sheep goat lion tiger bear wolf fox rabbit elephant monkey mouse donkey camel |"
        "vehicle car truck bus van taxi tractor ambulance motorcycle bicycle train tram jeep sedan limousine |"
        "fruit apple banana orange lemon grape peach pear plum mango strawberry coconut |"
        "building house church hotel castle tower palace barn temple hospital cathedral factory warehouse mansion |"
        "garment shirt coat dress jacket sweater skirt robe scarf cloak vest blouse gown |"
        "instrument piano guitar violin flute drum trumpet cello harp organ trombone saxophone clarinet banjo |"
        "tree oak pine maple cedar willow birch elm palm |"
        "drink beer wine coffee tea juice whiskey soda cocktail vodka champagne"
    ),
    dev=fields(
        "bird eagle hawk owl crow duck swan pigeon parrot falcon robin sparrow goose raven |"
        "insect bee ant butterfly beetle wasp moth mosquito cricket |"
        "fish salmon trout tuna shark cod carp herring | flower rose lily orchid daisy violet iris |"
        "weapon rifle sword pistol gun spear dagger cannon shotgun revolver missile |"
        "vegetable potato tomato carrot onion bean cabbage pumpkin | gem diamond ruby emerald pearl sapphire |"
        "boat yacht canoe ferry raft schooner | tool hammer drill shovel saw scissors |"
        "dessert cake pie cookie pudding pastry | book novel dictionary diary bible atlas encyclopedia biography"
    ),
)

# Within a split any two properties can hold of one thing, so an unrelated one neither follows nor contradicts.
_PROPERTIES: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "big large huge | ancient antique | strange odd weird peculiar | expensive costly | wet damp soaked |"
        "rare scarce | real genuine authentic | perfect flawless | shiny gleaming glossy | gray grey |"
        "famous renowned celebrated | holy sacred | hidden secret"
    ),
    dev=fields(
        "small little tiny | beautiful pretty gorgeous lovely | valuable precious | dirty filthy |"
        "dangerous hazardous | broken damaged | fake artificial | red crimson scarlet | frozen icy |"
        "favorite preferred | lost missing | useful helpful handy"
    ),
)

# No `a`: whether it turns into `an` would betray something about the replaced words.
_FRAMES: Final = (
    "it was the {} {}",
    "it is only the {} {}",
    "this is your {} {}",
    "that was my {} {} over there",
    "here is the {} {} again",
    "there was some {} {} behind us",
    "all that we have is the {} {}",
    "what she has is some {} {}",
)


def _draw_round(dice: Dice, split: Split) -> tuple[Row, ...]:
    frame = dice.pick(_FRAMES)
    rows = []
    for label in (_ENTAILMENT, _NEUTRAL, _CONTRADICTION):
        (category, *members), (foreign_category, *_) = dice.sample(_CATEGORIES[split], 2)
        same_property = label == _ENTAILMENT or (label == _CONTRADICTION and dice.below(2) == 0)
        first_property, second_property = substitution(dice, _PROPERTIES[split], synonyms=same_property)
        second_noun = foreign_category if label == _CONTRADICTION else category
        first = sentence(frame.format(first_property, dice.pick(members)))
        rows.append((first, sentence(frame.format(second_property, second_noun)), label))
    return tuple(rows)


ENTAILMENT: Final = Probe(
    task=Task(
        name="probe-entailment",
        title="Probe: entailment by categories and properties",
        kind="classification",
        label_names=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        paired=True,
    ),
    draw_round=_draw_round,
    rows_per_round=3,
    content_words=BySplit(
        train=frozenset(flatten(_CATEGORIES.train) + flatten(_PROPERTIES.train)),
        dev=frozenset(flatten(_CATEGORIES.dev) + flatten(_PROPERTIES.dev)),
    ),
)
