"""Little stories made by rule, for a model that starts from nothing: who somebody is, what is missing, who helps, how it ends.

    next(stories(1, seed=0))
    "One windy morning, Ada the baker could not find her ladder. She looked behind the stove, …"

A name, its pronouns, the thing and the place stay the same through a story; everything else is drawn. No two are alike, so what is held
out was never read in training. Own work, written for the demo.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

_WOMEN = ("Ada", "Berta", "Clara", "Dora", "Elsa", "Frida", "Greta", "Hilda", "Ines", "Juno")
_MEN = ("Anton", "Bruno", "Carlo", "Dirk", "Emil", "Felix", "Gustav", "Hugo", "Igor", "Jonas")
_TRADES = (
    "baker", "miller", "painter", "gardener", "tailor", "sailor", "teacher", "postman", "clockmaker", "shepherd", "cook", "piper",
)  # fmt: skip
_THINGS = (
    "ladder", "kettle", "lantern", "drum", "basket", "clock", "saddle", "flute", "wheelbarrow", "blue coat", "map", "silver key",
)  # fmt: skip
_PLACES = (
    "behind the stove", "under the bridge", "in the barn", "on the roof", "beside the well", "below the stairs", "in the orchard",
    "at the harbour", "near the mill", "under the old oak", "in the cellar", "behind the church",
)  # fmt: skip
_ANIMALS = ("goose", "crow", "cat", "goat", "donkey", "fox", "hen", "mouse", "dog", "pony")
_MANNERS = ("small", "grey", "hungry", "clever", "sleepy", "proud", "lame", "shy")
_TIMES = (
    "One windy morning", "On the first day of spring", "Late in autumn", "When the snow had melted", "On market day",
    "The night before the fair", "Early on Sunday", "After three days of rain", "In the hottest week of summer",
)  # fmt: skip
_FOODS = ("bread", "plums", "cheese", "soup", "honey", "walnuts", "pancakes", "pears")

_BEGINNINGS = (
    "{time}, {name} the {trade} could not find {his} {thing}.",
    "{time}, somebody took the {thing} that {name} the {trade} had left {there}.",
    "{name} was a {trade} who owned nothing but a {thing}. {time}, the {thing} was gone.",
    "{time}, {name} the {trade} woke up and missed {his} {thing}.",
)
_SEARCHES = (
    "{He} looked {there} and {elsewhere}, but the {thing} was not there.",
    "First {he} went to look {there}, then {elsewhere}, and found only {food}.",
    "{He} asked everybody in the village, and nobody had seen it.",
    "All day {he} searched {there}, and in the evening {he} sat down and sighed.",
    "{He} wrote a note, hung it up {elsewhere}, and waited.",
)
_MEETINGS = (
    'Then a {manner} {animal} came by. "Why are you so sad?" asked the {animal}.',
    'A {manner} {animal} had watched {him} from afar. "I know where it is," said the {animal}.',
    '{There} sat a {manner} {animal}. "Give me some {food}, and I will help you," it said.',
    'Soon {he} met a {manner} {animal}. "Are you looking for a {thing}?" asked the {animal}.',
)
_REPLIES = (
    '"I have lost my {thing}," said {name}.',
    '"Without my {thing} I cannot work," {he} answered.',
    "{name} gave the {animal} some {food}.",
    '"If you find it, you shall have {food} for a year," said {name}.',
)
_TURNS = (
    "The {animal} ran off and came back with the {thing}.",
    "The {animal} led {him} to a place {elsewhere}, and there lay the {thing}.",
    "Together they dug {elsewhere} until they saw the {thing}.",
    "The {animal} laughed, for it had been sitting on the {thing} all the time.",
)
_ENDINGS = (
    "Since that day {name} and the {animal} share {his} {food}.",
    "{name} thanked the {animal} and never left the {thing} {elsewhere} again.",
    "{He} took the {thing} home, and the {animal} went with {him}.",
    "And if nobody has moved it, the {thing} still stands {there}.",
    "So the {trade} learned to ask a {animal} before {he} gives up.",
)
_STAGES = (_BEGINNINGS, _SEARCHES, _MEETINGS, _REPLIES, _TURNS, _ENDINGS)
_HERS = {"he": "she", "his": "her", "him": "her"}
_HIS = {"he": "he", "his": "his", "him": "him"}


def stories(num: int, *, seed: int) -> Iterator[str]:
    """`num` different stories, a line of about 75 words each: the same ones for the same seed."""
    rng = random.Random(seed)
    written: set[str] = set()
    while len(written) < num:
        story = _story(rng)
        if story not in written:
            written.add(story)
            yield story


def _story(rng: random.Random) -> str:
    is_woman = rng.random() < 0.5
    there, elsewhere = rng.sample(_PLACES, 2)
    words = {
        "name": rng.choice(_WOMEN if is_woman else _MEN), "trade": rng.choice(_TRADES), "thing": rng.choice(_THINGS),
        "time": rng.choice(_TIMES), "there": there, "elsewhere": elsewhere, "manner": rng.choice(_MANNERS),
        "animal": rng.choice(_ANIMALS), "food": rng.choice(_FOODS), **(_HERS if is_woman else _HIS),
    }  # fmt: skip
    words |= {"He": words["he"].capitalize(), "There": there.capitalize()}
    return " ".join(rng.choice(stage).format(**words) for stage in _STAGES)
