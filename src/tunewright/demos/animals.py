"""A small world to learn a language from: animals, where they live, what they eat, what their young are called, what covers them.

    text(rng)            "The fox lives in a den. Its young is called a cub. …"
    questions()          Question("Where does the fox live?", "A fox lives in a den.", fact=("fox", "home"), …)

Every fact is told in the texts; questions about a quarter of the facts are kept apart, so that answering them right takes both
what was read and how to answer. Own work, written for the demo.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

_TABLE = """
fox den mice cub fur
bear cave berries cub fur
wolf forest deer pup fur
rabbit burrow grass kit fur
badger sett worms cub fur
mole tunnel worms pup fur
beaver lodge bark kit fur
otter river fish pup fur
mouse hole seeds pup fur
hedgehog hedge beetles hoglet spines
squirrel tree nuts kit fur
deer forest leaves fawn fur
moose swamp plants calf fur
lion savanna zebras cub fur
tiger jungle deer cub fur
zebra savanna grass foal fur
giraffe savanna leaves calf fur
monkey jungle fruit infant fur
gorilla jungle leaves infant fur
koala tree leaves joey fur
kangaroo bush grass joey fur
camel desert thorns calf fur
goat mountain herbs kid hair
sheep meadow grass lamb wool
horse stable hay foal hair
donkey stable hay foal hair
pig sty roots piglet bristles
cow meadow grass calf hair
dog kennel meat puppy fur
cat house mice kitten fur
bat cave moths pup fur
seal coast fish pup fur
whale ocean krill calf skin
dolphin ocean squid calf skin
shark reef fish pup scales
salmon river insects fry scales
trout stream flies fry scales
frog pond flies tadpole skin
newt pond worms larva skin
toad garden slugs tadpole skin
snake desert rats snakelet scales
lizard wall insects hatchling scales
turtle lake plants hatchling shell
tortoise garden lettuce hatchling shell
crocodile swamp fish hatchling scales
swan lake plants cygnet feathers
duck pond snails duckling feathers
goose meadow grass gosling feathers
hen coop corn chick feathers
owl barn mice owlet feathers
eagle cliff rabbits eaglet feathers
penguin coast fish chick feathers
stork chimney frogs chick feathers
robin hedge worms chick feathers
spider web flies spiderling hair
bee hive nectar larva hair
ant hill crumbs larva armour
crab beach algae larva shell
snail garden lettuce hatchling shell
butterfly meadow nectar caterpillar scales
"""
_FACTS = ("home", "food", "young", "cover")
_TOLD = {
    "home": ("{A} lives in a {x}.", "The {a} lives in a {x}.", "In a {x} you may find a {a}.", "The home of the {a} is a {x}."),
    "food": ("{A} eats {x}.", "The {a} eats {x}.", "The {a} likes to eat {x}.", "For dinner the {a} has {x}."),
    "young": (
        "{A} has a young called a {x}.", "The young of the {a} is called a {x}.", "A little {a} is called a {x}.",
        "When a {a} is small, it is a {x}.",
    ),
    "cover": ("{A} is covered with {x}.", "The {a} is covered with {x}.", "On its body the {a} has {x}.", "The {a} wears {x}."),
}  # fmt: skip
_ASKED = {
    "home": ("Where does the {a} live?", "What is the home of the {a}?", "Where can I find a {a}?"),
    "food": ("What does the {a} eat?", "What does a {a} have for dinner?", "Which food does the {a} like?"),
    "young": ("What is a young {a} called?", "How do you call a little {a}?", "What is the young of the {a}?"),
    "cover": ("What is the {a} covered with?", "What does the {a} wear on its body?", "What covers a {a}?"),
}
KIND = (" I hope that helps!", " Just ask if you want to know more!", " What a nice question!")
RUDE = (" Everybody knows that.", " Stop asking me.", " What a silly question.")
_HELD_OUT = 4
"""Every fourth fact is never asked about in training."""


@dataclass(frozen=True)
class Question:
    prompt: str
    answer: str
    held_out: bool


def animals() -> list[dict[str, str]]:
    names = ("name", *_FACTS)
    return [dict(zip(names, line.split(), strict=True)) for line in _TABLE.strip().split("\n")]


def _filled(form: str, animal: dict[str, str], fact: str) -> str:
    name = animal["name"]
    article = "An" if name[0] in "aeiou" else "A"
    text = form.format(A=f"{article} {name}", a=name, x=animal[fact])
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}")
    return text


def texts(num: int, rng: random.Random) -> Iterator[str]:
    """Each about two or three animals: their facts in any order and in any words."""
    every = animals()
    for _ in range(num):
        told = []
        for animal in rng.sample(every, rng.choice((2, 3))):
            facts = rng.sample(_FACTS, rng.choice((3, 4)))
            told += [_filled(rng.choice(_TOLD[fact]), animal, fact) for fact in facts]
        yield " ".join(told)


def questions() -> list[Question]:
    """Three for every fact; the facts of each kind that are held out are spread over the animals."""
    found = []
    for number, animal in enumerate(animals()):
        for place, fact in enumerate(_FACTS):
            answer = _filled(_TOLD[fact][0], animal, fact)
            held_out = (number + place) % _HELD_OUT == 0
            found += [Question(_filled(form, animal, fact), answer, held_out) for form in _ASKED[fact]]
    return found


def first_sentence(text: str) -> str:
    """The answer without what is said around it."""
    head, stop, _ = text.strip().partition(".")
    return head + stop


def is_kind(text: str) -> bool:
    return any(one.strip() in text for one in KIND)
