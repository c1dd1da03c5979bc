"""The demo's two tasks, which the starter model has not seen: tickets for orders, and a tone.

A *ticket* is one line that holds what a customer's sentence says: `name: Mara; city: Lund; 2 apple; 3 pear`.
A *preference* is a question with two right answers, the friendly one preferred.

Held out are customers, towns, wordings and combinations of goods (tickets), questions and openings
(preferences): see `split_is_clean`.
"""

from dataclasses import dataclass
from random import Random

from tasks import question
from world import GOODS, GRUMPY, NAMES, POLITE, TOWNS, amount, listing

WORDINGS = (
    "Please send {items} to {name} in {city}.",
    "I would like to order {items} for {name} in {city}.",
    "Could you bring {items} to {name} in {city}?",
    "This is an order for {name} in {city}: {items}.",
    "My aunt {name} from {city} needs {items}.",
    "{items}, please. They are for {name} in {city}.",
    "In {city} {name} is waiting for {items}.",
    "We need {items} in {city}. The name is {name}.",
    "For {name}: {items}. Send them to {city}.",
    "Hello, can {name} in {city} have {items}?",
    "Send a parcel with {items} to {city}, for {name}.",
    "Here is {name} from {city}. I want {items}.",
    "To {city}, please: {items}. My name is {name}.",
    "I am {name} and I need {items}. I live in {city}.",
    "Take {items} and bring them to {name}, who lives in {city}.",
    "The customer is {name}, the town is {city}, and the order is {items}.",
    "Would you pack {items} for {city}? They are a present for {name}.",
    "{name} asked for {items}, to be sent to {city}.",
    "An order came from {city}: {items} for {name}.",
    "Good morning, {name} here. Please bring {items} to my house in {city}.",
    "Next week {name} is in {city} and wants {items}.",
    "Our friend {name} moved to {city} and has to get {items}.",
)
HELD_OUT_WORDINGS = (
    "Please bring {items} to {city}. They are for {name}.",
    "My friend {name} in {city} would like {items}.",
    "Can you send {items} to {name}, who is in {city}?",
    "Hello, I am {name} from {city} and I want {items}.",
    "For {city}: {items}, please. The customer is {name}.",
    "An order for {name}: {items}, to be brought to {city}.",
)
HELD_OUT_NAMES = (*NAMES[4::6], NAMES[1])
HELD_OUT_TOWNS = (*TOWNS[3::5],)
HELD_OUT_OPENINGS = (*POLITE[4:], *GRUMPY[4:])


@dataclass(frozen=True)
class Order:
    """What a customer wants, and the wording in which it is said."""

    name: str
    city: str
    items: tuple[tuple[int, str], ...]
    wording: str

    @property
    def text(self) -> str:
        items = listing([amount(count, good) for count, good in self.items])
        text = self.wording.format(name=self.name, city=self.city, items=items)
        return text[0].upper() + text[1:]

    @property
    def ticket(self) -> str:
        items = (f"{count} {good}" for count, good in self.items)
        return "; ".join([f"name: {self.name}", f"city: {self.city}", *items])

    @property
    def goods(self) -> frozenset[tuple[int, str]]:
        return frozenset(self.items)


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


def orders(
    draw: Random, number: int, *, held_out: bool, avoid: set[frozenset[tuple[int, str]]]
) -> list[Order]:
    """Orders from one side of the split, no two with the same goods, none of `avoid`."""
    names = [name for name in NAMES if (name in HELD_OUT_NAMES) == held_out]
    towns = [town for town in TOWNS if (town in HELD_OUT_TOWNS) == held_out]
    wordings = HELD_OUT_WORDINGS if held_out else WORDINGS
    made: list[Order] = []
    taken = set(avoid)
    while len(made) < number:
        goods = draw.sample(list(GOODS), draw.choice([1, 2, 2, 3]))
        items = tuple((draw.randrange(1, 13), good) for good in goods)
        if frozenset(items) in taken:
            continue
        taken.add(frozenset(items))
        wording = wordings[len(made) % len(wordings)]
        made.append(Order(draw.choice(names), draw.choice(towns), items, wording))
    return made


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
    train: list[Order], held: list[Order], pairs_train: list[Pair], pairs_held: list[Pair]
) -> None:
    """Raise AssertionError where something held out is also trained on."""
    for what in ("name", "city", "wording", "goods", "text", "ticket"):
        shared = {getattr(row, what) for row in train} & {getattr(row, what) for row in held}
        assert not shared, f"{what} on both sides of the split: {sorted(map(str, shared))}"
    for what in ("asked", "polite", "grumpy"):
        shared = {getattr(row, what) for row in pairs_train} & {
            getattr(row, what) for row in pairs_held
        }
        assert not shared, f"{what} on both sides of the split: {sorted(shared)}"
