"""Fields of synonyms, by the slot of a sentence that they fill, in two halves that share no word.

Within a slot and a split no two fields mean nearly the same, so words of two fields are not synonyms of each other.
Every word is a common one that the vocabularies of BERT and its kin hold whole: a model cannot read a word of the dev
split from pieces that it met in the train split.
"""

from __future__ import annotations

from typing import Final

from supermask.tasks.probes.grammar import BySplit, Dice, Fields, fields

__all__ = ["AGENTS", "AGENT_TRAITS", "OBJECTS", "OBJECT_TRAITS", "VERBS", "substitution"]

AGENTS: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "doctor physician | kid child | teacher instructor tutor | king monarch | singer vocalist | boss manager |"
        "priest clergyman pastor | prisoner inmate captive | professor scholar academic | opponent rival | boy lad |"
        "woman lady | father dad | customer client | killer murderer assassin | farmer peasant | coach trainer |"
        "merchant trader dealer | crook criminal | specialist expert | ghost spirit | pilot aviator |"
        "supporter fan | visitor guest | heir successor | explorer adventurer | mechanic technician |"
        "rebel revolutionary | grandfather grandpa | lover boyfriend | ambassador diplomat envoy | critic reviewer"
    ),
    dev=fields(
        "lawyer attorney | policeman officer cop | thief robber | writer author novelist | pupil student |"
        "soldier warrior fighter | sailor seaman | employee worker | actor performer | leader chief |"
        "friend companion buddy pal | girl lass | man guy fellow | mother mom | traveler tourist |"
        "reporter journalist | servant maid butler | scientist researcher | magician wizard sorcerer | chef cook |"
        "idiot fool | painter artist | owner proprietor | founder creator | champion winner | demon devil |"
        "immigrant migrant | detective investigator | translator interpreter | infant baby"
    ),
)

OBJECTS: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "car automobile | present gift | picture photo photograph | cup mug | ship vessel | coat jacket |"
        "rifle gun | song tune melody | bag sack | phone telephone | letter note | map chart | purse wallet |"
        "cash money | bug insect | horse pony | pig hog | hotel inn | castle fortress | statue sculpture |"
        "garden yard | poem verse | rope cord | box crate | cap hat | entrance doorway | candy sweets | chair seat |"
        "tool instrument | album record | novel book | shirt blouse | bomb explosive | village town | lake pond |"
        "bread loaf | beer ale | cigarette cigar | fence barrier | basement cellar | corridor hallway |"
        "wagon cart carriage | lamp lantern | soil dirt | forest woods"
    ),
    dev=fields(
        "house home | stone rock | film movie | sofa couch | road street | shop store | jail prison |"
        "plane aircraft airplane | knife blade dagger | story tale | garbage trash rubbish | pants trousers |"
        "meal dinner | rug carpet | bike bicycle | journal diary | parcel package | puppy dog | cat kitten |"
        "rabbit bunny | snake serpent | tavern pub bar | grave tomb | church chapel | cabin cottage hut |"
        "ocean sea | creek stream brook | medicine drug | stick rod | jewel gem | engine motor | computer laptop |"
        "flower blossom | dress gown | blanket quilt | document file | mountain peak | beach shore coast |"
        "pastry cake | pen pencil"
    ),
)

VERBS: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "bought purchased | wanted desired | hid concealed | broke shattered | built constructed |"
        "got received obtained | grabbed seized snatched | carried hauled | pushed shoved | refused rejected |"
        "altered changed modified | kept retained | described depicted | protected defended guarded |"
        "abandoned deserted | touched felt | hit struck | used employed utilized | improved enhanced |"
        "rented leased | traded swapped exchanged | approved endorsed | released freed | lifted raised hoisted |"
        "found discovered | divided split | imagined envisioned | forgot overlooked | tasted sampled |"
        "criticized condemned | announced proclaimed"
    ),
    dev=fields(
        "fixed repaired | liked enjoyed | hated despised | threw tossed hurled | destroyed ruined wrecked |"
        "saw noticed spotted | picked chose selected | pulled dragged | cleaned washed |"
        "showed displayed exhibited | examined inspected | followed pursued chased | sent dispatched |"
        "owned possessed | recalled remembered | covered wrapped | cut sliced | supplied provided |"
        "decorated adorned | stored saved | loaned lent | arranged organized | mentioned cited"
    ),
)

AGENT_TRAITS: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "tired exhausted weary | clever smart intelligent | angry furious mad | sad unhappy miserable |"
        "famous renowned celebrated | nervous anxious worried | cruel brutal vicious | honest sincere | lazy idle |"
        "hungry starving | careful cautious | loyal faithful devoted | handsome attractive | elegant graceful |"
        "lucky fortunate | confused puzzled | thin slim slender"
    ),
    dev=fields(
        "brave courageous fearless | stupid dumb foolish | happy cheerful | rich wealthy | kind gentle |"
        "calm peaceful serene | greedy selfish | proud arrogant | humble modest | eager keen enthusiastic |"
        "crazy insane | strong powerful | old elderly aged | funny amusing humorous | scared frightened |"
        "surprised astonished | desperate hopeless | grateful thankful | young youthful"
    ),
)

OBJECT_TRAITS: Final[BySplit[Fields]] = BySplit(
    train=fields(
        "big large | ancient antique | strange odd weird peculiar | expensive costly | wet damp soaked |"
        "rare scarce uncommon | secret hidden | real genuine authentic | perfect flawless | shiny gleaming glossy |"
        "round circular | gray grey | important significant crucial | popular fashionable | distant remote |"
        "soft tender | crowded packed | holy sacred | rough coarse | long lengthy"
    ),
    dev=fields(
        "small little | new recent modern | beautiful pretty gorgeous lovely | cheap inexpensive | dirty filthy |"
        "dangerous hazardous | broken damaged | fake false | terrible awful horrible dreadful |"
        "red crimson scarlet | useful helpful handy | useless worthless | royal regal | fragile delicate |"
        "frozen icy | favorite preferred | sturdy solid | dark dim | empty vacant | luxurious lavish |"
        "ordinary common"
    ),
)


def substitution(dice: Dice, slot: Fields, *, synonyms: bool) -> tuple[str, str]:
    """Two different words for one place of a sentence.

    Example:
        >>> pair = substitution(Dice("example"), fields("big large | old aged"), synonyms=True)
        >>> sorted(pair) in (["big", "large"], ["aged", "old"])
        True
    """
    if synonyms:
        first, second = dice.sample(dice.pick(slot), 2)
        return first, second
    one, other = dice.sample(slot, 2)
    return dice.pick(one), dice.pick(other)
