"""Little stories, plain facts, and short reports with questions about what they say."""

from random import Random

from tasks import Turn, question
from world import (
    ADJECTIVES,
    ANIMALS,
    FEELINGS,
    GOODS,
    NAMES,
    NUMBERS,
    OBJECTS,
    PLACES,
    TOWNS,
    amount,
    listing,
)

OPENINGS = (
    "Once upon a time {name} lived in {town} with {a} {animal}.",
    "One morning {name} went to the {place} in {town}.",
    "In {town} there was a child called {name} who had {a} {animal}.",
    "It was a cold day in {town}, and {name} was {feeling}.",
)
EVENTS = (
    "{name} lost {a2} {adjective} {thing} near the {place}.",
    "There {name} met {friend}, who was looking for {a2} {adjective} {thing}.",
    "The {animal} ran into the {place} and found {a2} {adjective} {thing}.",
    '"Have you seen my {thing}?" asked {friend}.',
    '"Let us look in the {place}," said {name}.',
    "They looked everywhere, but they could not find it.",
    "{friend} gave {name} {some}.",
    "{name} wanted to buy {some}, but the shop in {town} was closed.",
    "Then the {animal} said {sound}, and everybody laughed.",
    "Suddenly it began to rain, and they ran to the {place}.",
    "{name} was {feeling}, so {friend} sang a song.",
)
ENDINGS = (
    "At last {friend} found the {thing}, and they were all {feeling2}.",
    "In the evening {name} went home to {town} and was {feeling2}.",
    "From that day on {name} and {friend} were good friends.",
    "{name} thanked {friend}, and they shared {some}.",
    "And the {animal} slept all night in the {place}.",
)
REPORTS = (
    "{name} bought {items} in {town}.",
    "In {town} {name} found {items}.",
    "{name} from {town} has {items}.",
    "Yesterday {name} carried {items} to {town}.",
    "There were {items} on the table when {name} came home to {town}.",
    "{name} lost {items} on the way to {town}.",
    "My friend {name} keeps {items} in {town}.",
    "We saw {items} in {town}, and {name} took them home.",
    "Last week {items} came to {town} by train, all of them for {name}.",
    "For the party in {town} somebody ordered {items}; it was {name}.",
)


def story(draw: Random) -> str:
    """Five to eight sentences with one hero, one friend, one animal and one lost thing."""
    name, friend = draw.sample(NAMES, 2)
    beast = draw.choice(list(ANIMALS))
    adjective = draw.choice(ADJECTIVES)
    count = draw.randrange(2, 9)
    words = {
        "name": name,
        "friend": friend,
        "town": draw.choice(TOWNS),
        "animal": beast,
        "a": "an" if beast[0] in "aeiou" else "a",
        "sound": ANIMALS[beast][0],
        "place": draw.choice(PLACES),
        "adjective": adjective,
        "a2": "an" if adjective[0] in "aeiou" else "a",
        "thing": draw.choice(OBJECTS),
        "some": amount(count, draw.choice(list(GOODS))),
        "feeling": draw.choice(FEELINGS),
        "feeling2": draw.choice(FEELINGS),
    }
    events = draw.sample(range(len(EVENTS)), draw.choice([3, 4, 5]))
    parts = [draw.choice(OPENINGS), *(EVENTS[at] for at in sorted(events)), draw.choice(ENDINGS)]
    return " ".join(part.format(**words) for part in parts)


def facts(draw: Random) -> str:
    """Three to six plain sentences, each the answer to some question."""
    return " ".join(
        answer
        for answer in (question(draw)[1] for _ in range(draw.randrange(4, 9)))
        if answer[-1] == "."
    )


def report(draw: Random) -> tuple[str, list[Turn]]:
    """A sentence about who has how many of what and where, and questions about it in random order."""
    goods = draw.sample(list(GOODS), draw.choice([1, 2, 2, 3]))
    counts = [draw.randrange(1, 13) for _ in goods]
    name, town = draw.choice(NAMES), draw.choice(TOWNS)
    parts = [amount(count, good) for count, good in zip(counts, goods, strict=True)]
    text = draw.choice(REPORTS).format(name=name, town=town, items=listing(parts))
    text = text[0].upper() + text[1:]
    short = [f"{count} {part.split()[1]}" for count, part in zip(counts, parts, strict=True)]
    turns = [
        ("Who is it about?", f"It is about {name}."),
        ("Which name is in the text?", name),
        ("Which town is it?", f"It is {town}."),
        ("Which town is in the text?", town),
        ("What is counted?", f"{listing(parts)}."),
        ("Write the things with digits.", ", ".join(short)),
        ("Write one of each thing.", ", ".join(goods)),
        ("How many kinds of things are there?", NUMBERS[len(goods)]),
    ]
    for count, good in zip(counts, goods, strict=True):
        turns.append((f"How many {GOODS[good]}?", f"{count}"))
        turns.append((f"How many {GOODS[good]} are there?", f"{NUMBERS[count]}"))
    draw.shuffle(turns)
    return text, turns
