"""`probe-acceptability`: is the sentence grammatical?

Five rules, each kept or broken by the form of one word:

    The singers near my king laugh often.     * The singers near my king laughs often.     subject and verb
    The singers near my king are clever.      * The singer near my king are clever.        subject and copula
    These singers laughed often.              * These singer laughed often.                determiner and noun
    The singer had arrived again.             * The singer had arrive again.               auxiliary and verb
    The singer will arrive again.             * The singer will teacher again.             word class

Both classes have the same frames and function words equally often, and each form of each word stands in both: only the
agreement of two words, of which at least one is a content word, tells the class. What a model must know is the number
of a noun and the form of a verb; those of dev do not occur in train in any form. Nouns of random number between subject
and verb mislead whoever looks at neighbours. Chance is an accuracy of 0.5 and a Matthews correlation of 0.
"""

from __future__ import annotations

from typing import Final

from supermask.tasks.probes.grammar import BySplit, Dice, Fields, Probe, Row, Split, fields, flatten, sentence, words
from supermask.tasks.task import Task

__all__ = ["ACCEPTABILITY"]

# Singular and plural. None of them is also a verb in common use.
_NOUNS: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "actor actors | adult adults | artist artists | bird birds | boy boys | brother brothers | cat cats |"
        "child children | citizen citizens | client clients | colleague colleagues | creature creatures |"
        "criminal criminals | dancer dancers | daughter daughters | demon demons | detective detectives |"
        "director directors | dragon dragons | driver drivers | eagle eagles | editor editors | elephant elephants |"
        "employee employees | engineer engineers | farmer farmers | fighter fighters | friend friends | girl girls |"
        "governor governors | guitarist guitarists | hero heroes | historian historians | hunter hunters |"
        "infant infants | journalist journalists | king kings | lady ladies | leader leaders | lion lions |"
        "lover lovers | manager managers | merchant merchants | monk monks | musician musicians | officer officers |"
        "owner owners | passenger passengers | player players | politician politicians | prince princes |"
        "professor professors | queen queens | refugee refugees | reporter reporters | resident residents |"
        "robot robots | scholar scholars | servant servants | singer singers | sister sisters | spider spiders |"
        "stranger strangers | surgeon surgeons | swan swans | teacher teachers | thief thieves | tourist tourists |"
        "uncle uncles | victim victims | visitor visitors | warrior warriors | wife wives | wizard wizards |"
        "woman women | writer writers"
    ),
    dev=fields(
        "actress actresses | agent agents | assistant assistants | athlete athletes | bee bees | bishop bishops |"
        "candidate candidates | composer composers | cousin cousins | critic critics | customer customers |"
        "designer designers | devil devils | diplomat diplomats | dolphin dolphins | emperor emperors |"
        "expert experts | fairy fairies | frog frogs | goat goats | god gods | goose geese | horse horses |"
        "immigrant immigrants | insect insects | investor investors | lawyer lawyers | mayor mayors |"
        "monster monsters | mouse mice | neighbor neighbors | owl owls | painter painters | pigeon pigeons |"
        "poet poets | priest priests | prisoner prisoners | pupil pupils | rabbit rabbits | rider riders |"
        "sailor sailors | scientist scientists | settler settlers | son sons | student students |"
        "teenager teenagers | tiger tigers | turtle turtles | vampire vampires | voter voters | whale whales |"
        "widow widows | worker workers | zombie zombies"
    ),
)

# Base form, third person, past; all can do without an object.
_VERBS: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "climb climbs climbed | collapse collapses collapsed | dance dances danced | die dies died | eat eats ate |"
        "escape escapes escaped | fall falls fell | fight fights fought | float floats floated | gasp gasps gasped |"
        "giggle giggles giggled | go goes went | grin grins grinned | grow grows grew | laugh laughs laughed |"
        "live lives lived | march marches marched | move moves moved | nod nods nodded | operate operates operated |"
        "pause pauses paused | perform performs performed | rise rises rose | roll rolls rolled |"
        "rush rushes rushed | scream screams screamed | shiver shivers shivered | shout shouts shouted |"
        "sing sings sang | sink sinks sank | sit sits sat | sleep sleeps slept | speak speaks spoke |"
        "stare stares stared | stay stays stayed | struggle struggles struggled | suffer suffers suffered |"
        "think thinks thought | travel travels traveled | vote votes voted | wait waits waited | walk walks walked |"
        "whisper whispers whispered | win wins won | work works worked | worry worries worried"
    ),
    dev=fields(
        "begin begins began | change changes changed | come comes came | compete competes competed |"
        "cook cooks cooked | crash crashes crashed | cry cries cried | dream dreams dreamed | drink drinks drank |"
        "drive drives drove | fade fades faded | fail fails failed | fly flies flew | groan groans groaned |"
        "growl growls growled | hide hides hid | hunt hunts hunted | jump jumps jumped | leap leaps leaped |"
        "leave leaves left | lie lies lied | moan moans moaned | play plays played | rest rests rested |"
        "return returns returned | ride rides rode | run runs ran | shrug shrugs shrugged | sigh sighs sighed |"
        "slide slides slid | slip slips slipped | smile smiles smiled | sob sobs sobbed | spin spins spun |"
        "stand stands stood | stop stops stopped | survive survives survived | talk talks talked | try tries tried |"
        "wake wakes woke | watch watches watched | wonder wonders wondered | write writes wrote | yell yells yelled"
    ),
)

# Base form and past, which is also the participle; no base form is also a noun.
_REGULAR_VERBS: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "arrive arrived | continue continued | emerge emerged | improve improved | insist insisted | learn learned |"
        "participate participated | react reacted | remain remained | respond responded | argue argued |"
        "decide decided | listen listened | pray prayed | relax relaxed | apologize apologized | resign resigned |"
        "confess confessed | behave behaved | celebrate celebrated | depart departed | communicate communicated |"
        "intervene intervened | endure endured | tremble trembled"
    ),
    dev=fields(
        "agree agreed | disagree disagreed | appear appeared | disappear disappeared | hesitate hesitated |"
        "explode exploded | recover recovered | succeed succeeded | complain complained | vanish vanished |"
        "exist existed | wander wandered | retire retired | evolve evolved | obey obeyed | interfere interfered |"
        "proceed proceeded | negotiate negotiated | breathe breathed | migrate migrated | persist persisted |"
        "descend descended | concentrate concentrated | assemble assembled"
    ),
)

_TRAITS: Final = BySplit(
    train=words(
        "tired clever angry famous nervous honest lazy hungry careful loyal handsome lucky thin lonely sick rude "
        "jealous"
    ),
    dev=words(
        "brave stupid happy rich kind calm greedy proud humble crazy strong old funny scared grateful young shy polite"
    ),
)

_RULES: Final = ("verb", "copula", "determiner", "auxiliary", "word class")
_ADVERBS: Final = words("here there now again often then")
_PREPOSITIONS: Final = words("near behind with beside below above")
_DETERMINERS: Final = words("the my our your her his their")
_COPULAS: Final = ("is", "are")
_DEMONSTRATIVES: Final = ("this", "these")
_AUXILIARIES: Final = ("will", "had")


def _draw_round(dice: Dice, split: Split) -> tuple[Row, ...]:
    rule, adverb = dice.pick(_RULES), dice.pick(_ADVERBS)
    cue = dice.below(2)
    between, number_between = dice.pick(("", f"{dice.pick(_PREPOSITIONS)} {dice.pick(_DETERMINERS)}")), dice.below(2)
    rows = []
    for label in (0, 1):
        agreeing = cue if label else 1 - cue
        noun, other_noun = dice.sample(_NOUNS[split], 2)
        verb, regular, trait = dice.pick(_VERBS[split]), dice.pick(_REGULAR_VERBS[split]), dice.pick(_TRAITS[split])
        phrase = f"{between} {other_noun[number_between]}" if between else ""
        if rule == "verb":
            text = sentence("the", noun[cue], phrase, verb[1 - agreeing], adverb)
        elif rule == "copula":
            text = sentence("the", noun[agreeing], phrase, _COPULAS[cue], trait)
        elif rule == "determiner":
            text = sentence(_DEMONSTRATIVES[cue], noun[agreeing], phrase, verb[2], adverb)
        elif rule == "auxiliary":
            text = sentence("the", noun[number_between], _AUXILIARIES[cue], regular[agreeing], adverb)
        else:
            # The place wants a noun (cue 0) or a verb (cue 1).
            word = (noun[0], regular[0])[agreeing]
            text = (
                sentence("the", word, "is", trait) if cue == 0 else sentence("the", other_noun[0], "will", word, adverb)
            )
        rows.append((text, None, label))
    return tuple(rows)


ACCEPTABILITY: Final = Probe(
    task=Task(
        name="probe-acceptability",
        title="Probe: grammatical agreement",
        kind="classification",
        label_names=("unacceptable", "acceptable"),
        metrics=("matthews", "accuracy"),
    ),
    draw_round=_draw_round,
    rows_per_round=2,
    content_words=BySplit(
        train=frozenset(flatten(_NOUNS.train + _VERBS.train + _REGULAR_VERBS.train) + _TRAITS.train),
        dev=frozenset(flatten(_NOUNS.dev + _VERBS.dev + _REGULAR_VERBS.dev) + _TRAITS.dev),
    ),
)
