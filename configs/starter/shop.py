"""The demo's two tasks, which the starter model has not seen: the way to an aisle, and a tone.

A *request* is a customer's sentence about one thing; the answer is the aisle of things of its kind:
`aisle 3, tools`.  A *preference* is a question with its right answer, opened in two tones, the
friendly one preferred.

Held out are things and wordings (requests), questions and openings (preferences): see
`split_is_clean`.  A held-out thing is in the pre-training text, which says what kind it is, and in
no request that is trained on.
"""

from dataclasses import dataclass
from random import Random

from tasks import GROUPS, question
from world import GRUMPY, POLITE, with_article

AISLES = {
    "fruit": "aisle 1, fruit",
    "vegetable": "aisle 2, vegetables",
    "tool": "aisle 3, tools",
    "animal": "aisle 4, pets",
    "piece of clothing": "aisle 5, clothes",
}
HELD_OUT_THINGS = {
    "fruit": ("pear", "melon", "cherry", "grape"),
    "vegetable": ("onion", "bean"),
    "tool": ("rake", "drill", "saw"),
    "animal": ("horse", "hen", "frog", "wolf"),
    "piece of clothing": ("scarf", "sock", "shirt"),
}
WORDINGS = (
    "Where do I find {a}?",
    "I am looking for {a}.",
    "I need {a}, please.",
    "Can you show me {a}?",
    "My mother wants {a}.",
    "Excuse me, I would like {a}.",
    "{A}, please.",
    "Hello! Which way to {a}?",
    "We came to buy {a}.",
    "Is there {a} in this shop?",
    "My friend asked me for {a}.",
    "I have to bring home {a}.",
    "Good morning, do you have {a}?",
    "Do you sell this? I mean {a}.",
)
HELD_OUT_WORDINGS = (
    "Could you tell me where {a} is?",
    "I want to buy {a} today.",
    "Please help me to find {a}.",
    "My sister needs {a}.",
)
HELD_OUT_OPENINGS = (*POLITE[4:], *GRUMPY[4:])


@dataclass(frozen=True)
class Request:
    """What a customer asks for, and the wording in which it is said."""

    thing: str
    kind: str
    wording: str

    @property
    def text(self) -> str:
        thing = with_article(self.thing)
        return self.wording.format(a=thing, A=thing[0].upper() + thing[1:])

    @property
    def aisle(self) -> str:
        return AISLES[self.kind]


@dataclass(frozen=True)
class Pair:
    """A question, its answer, and two ways to open it, the first preferred."""

    asked: str
    said: str
    polite: str
    grumpy: str

    @property
    def row(self) -> dict[str, str]:
        chosen, rejected = f"{self.polite} {self.said}", f"{self.grumpy} {self.said}"
        return {"prompt": self.asked, "chosen": chosen, "rejected": rejected}


def requests(draw: Random, number: int, *, held_out: bool) -> list[Request]:
    """Different requests from one side of the split, in random order, at most `number`."""
    made = [
        Request(thing, kind, wording)
        for kind, things in GROUPS.items()
        for thing in things
        if (thing in HELD_OUT_THINGS[kind]) == held_out
        for wording in (HELD_OUT_WORDINGS if held_out else WORDINGS)
    ]
    draw.shuffle(made)
    return made[:number]


def questions(draw: Random, number: int, *, avoid: set[str]) -> list[tuple[str, str]]:
    """Different questions, none of `avoid`, with their plain answers."""
    made: dict[str, str] = {}
    while len(made) < number:
        asked, said = question(draw)
        if asked not in avoid:
            made[asked] = said
    return list(made.items())


def pairs(draw: Random, number: int, *, held_out: bool, avoid: set[str]) -> list[Pair]:
    """Preferences from one side of the split: a held-out pair has at least one held-out opening."""
    made: list[Pair] = []
    for asked, said in questions(draw, number, avoid=avoid):
        polite, grumpy = draw.choice(POLITE[:4]), draw.choice(GRUMPY[:4])
        if held_out:
            polite, grumpy = draw.choice(POLITE[4:]), draw.choice(GRUMPY[4:])
        made.append(Pair(asked, said, polite, grumpy))
    return made


def split_is_clean(
    train: list[Request], held: list[Request], pairs_train: list[Pair], pairs_held: list[Pair]
) -> None:
    """Raise AssertionError where something held out is also trained on."""
    for what in ("thing", "wording", "text"):
        shared = {getattr(row, what) for row in train} & {getattr(row, what) for row in held}
        assert not shared, f"{what} on both sides of the split: {sorted(map(str, shared))}"
    for what in ("asked", "polite", "grumpy"):
        shared = {getattr(row, what) for row in pairs_train} & {
            getattr(row, what) for row in pairs_held
        }
        assert not shared, f"{what} on both sides of the split: {sorted(shared)}"
