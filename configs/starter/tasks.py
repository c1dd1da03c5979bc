"""Questions and answers of the starter's pre-training text: one function a kind of task.

Each takes a random source and gives (question, answer), the answer as one plain sentence or word.
`TASKS` lists them with how often each is drawn.
"""

from collections.abc import Callable
from random import Random

from world import (
    ANIMALS,
    CAPITALS,
    CLOTHES,
    COLOURS,
    DAYS,
    FRUIT,
    GOODS,
    JOBS,
    MONTHS,
    NAMES,
    NUMBERS,
    OPPOSITES,
    PLACES,
    TOOLS,
    TOWNS,
    VEGETABLES,
    amount,
    listing,
    with_article,
)

Turn = tuple[str, str]
GROUPS = {
    "fruit": FRUIT,
    "vegetable": VEGETABLES,
    "tool": TOOLS,
    "animal": list(ANIMALS),
    "piece of clothing": CLOTHES,
}
WORDS = [*GOODS, *TOOLS, *CLOTHES, *ANIMALS]


def colour(draw: Random) -> Turn:
    thing, answer = draw.choice(list(COLOURS.items()))
    ask = [
        "What colour is {}?",
        "Which colour has {}?",
        "Tell me the colour of {}.",
        "{}: what colour?",
    ]
    text = draw.choice(ask).format(thing)
    return text[0].upper() + text[1:], f"{thing[0].upper() + thing[1:]} is {answer}."


def capital(draw: Random) -> Turn:
    country, answer = draw.choice(list(CAPITALS.items()))
    if draw.random() < 0.3:
        ask = ["Which country has the capital {}?", "{} is the capital of which country?"]
        return draw.choice(ask).format(answer), f"{answer} is the capital of {country}."
    ask = [
        "What is the capital of {}?",
        "Which city is the capital of {}?",
        "Name the capital of {}.",
    ]
    return draw.choice(ask).format(country), f"The capital of {country} is {answer}."


def animal(draw: Random) -> Turn:
    name, (sound, legs, food, young, home) = draw.choice(list(ANIMALS.items()))
    a = with_article(name)
    return draw.choice(
        [
            (f"What does {a} say?", f"The {name} says {sound}."),
            (f"Which sound does {a} make?", f"The {name} says {sound}."),
            (f"How many legs does {a} have?", f"The {name} has {NUMBERS[legs]} legs."),
            (f"What does {a} eat?", f"The {name} eats {food}."),
            (f"What is a young {name} called?", f"A young {name} is called {with_article(young)}."),
            (f"Where does {a} live?", f"The {name} lives in a {home}."),
            (f"Which animal says {sound}?", f"The {name} says {sound}."),
        ]
    )


def opposite(draw: Random) -> Turn:
    word, answer = draw.choice(list(OPPOSITES.items()))
    ask = ["What is the opposite of {}?", "Give me the opposite of {}.", "{} and its opposite?"]
    text = draw.choice(ask).format(word)
    return text[0].upper() + text[1:], f"The opposite of {word} is {answer}."


def plural(draw: Random) -> Turn:
    one, many = draw.choice(list(GOODS.items()))
    return draw.choice(
        [
            (f"What is the plural of {one}?", f"The plural of {one} is {many}."),
            (f"One {one}, two ...?", f"Two {many}."),
            (f"What is the singular of {many}?", f"The singular of {many} is {one}."),
            (f"Many {many}, one ...?", f"One {one}."),
        ]
    )


def digits(draw: Random) -> Turn:
    number = draw.randrange(21)
    word = NUMBERS[number]
    return draw.choice(
        [
            (f"Write {word} as a number.", f"{number}"),
            (f"Write {number} as a word.", f"{word}"),
            (f"Which number is {word}?", f"{word} is {number}"),
        ]
    )


def arithmetic(draw: Random) -> Turn:
    a, b = draw.randrange(11), draw.randrange(11)
    kind = draw.choice(["plus", "minus"])
    a, b = (max(a, b), min(a, b)) if kind == "minus" else (a, b)
    result = a + b if kind == "plus" else a - b
    if draw.random() < 0.4:
        left, right, total = NUMBERS[a], NUMBERS[b], NUMBERS[result]
        return f"What is {left} {kind} {right}?", f"{left} {kind} {right} is {total}."
    sign = "+" if kind == "plus" else "-"
    ask = ["What is {}?", "How much is {}?", "{} = ?"]
    text = f"{a} {sign} {b}"
    return draw.choice(ask).format(text), f"{text} = {result}"


def letters(draw: Random) -> Turn:
    word = draw.choice(WORDS)
    return draw.choice(
        [
            (f"What is the first letter of {word}?", f"The first letter of {word} is {word[0]}."),
            (f"What is the last letter of {word}?", f"The last letter of {word} is {word[-1]}."),
            (f"Spell {word}.", f"{word}: {' '.join(word)}"),
        ]
    )


def order(draw: Random) -> Turn:
    words = draw.sample(WORDS, draw.choice([2, 3, 3, 4]))
    numbers = [str(number) for number in draw.sample(range(1, 21), 3)]
    return draw.choice(
        [
            (f"Say in reverse order: {', '.join(words)}", ", ".join(words[::-1])),
            (f"Sort by the alphabet: {', '.join(words)}", ", ".join(sorted(words))),
            (f"Sort the numbers: {', '.join(numbers)}", ", ".join(sorted(numbers, key=int))),
            (f"Repeat these words: {', '.join(words)}", ", ".join(words)),
            (
                f"How many words are these: {', '.join(words)}?",
                f"These are {NUMBERS[len(words)]} words.",
            ),
            (f"Which word comes first: {', '.join(words)}?", f"The first word is {words[0]}."),
            (f"Which word comes last: {', '.join(words)}?", f"The last word is {words[-1]}."),
        ]
    )


def calendar(draw: Random) -> Turn:
    names = draw.choice([DAYS, MONTHS])
    kind = "day" if names is DAYS else "month"
    at = draw.randrange(len(names))
    after, before = names[(at + 1) % len(names)], names[at - 1]
    return draw.choice(
        [
            (f"Which {kind} comes after {names[at]}?", f"After {names[at]} comes {after}."),
            (f"Which {kind} comes before {names[at]}?", f"Before {names[at]} comes {before}."),
        ]
    )


def job(draw: Random) -> Turn:
    name, work = draw.choice(list(JOBS.items()))
    return draw.choice(
        [
            (f"What does a {name} do?", f"A {name} {work}."),
            (f"Who {work}?", f"A {name} {work}."),
        ]
    )


def group(draw: Random) -> Turn:
    kind = draw.choice(list(GROUPS))
    if draw.random() < 0.4:
        count = draw.choice([2, 3])
        many = {"fruit": "fruits", "piece of clothing": "pieces of clothing"}.get(kind, f"{kind}s")
        picked = [with_article(word) for word in draw.sample(GROUPS[kind], count)]
        return (
            f"Name {NUMBERS[count]} {many}.",
            f"{listing(picked)[0].upper()}{listing(picked)[1:]}.",
        )
    word = draw.choice(GROUPS[kind])
    asked = draw.choice([kind, draw.choice(list(GROUPS))])
    said = "Yes" if asked == kind else "No"
    return (
        f"Is {with_article(word)} {with_article(asked)}?",
        f"{said}, {with_article(word)} is {with_article(kind)}.",
    )


def copy(draw: Random) -> Turn:
    """Repeat a sentence or a list of amounts, in words or in digits."""
    goods = draw.sample(list(GOODS), draw.choice([1, 2, 2, 3]))
    counts = [draw.randrange(1, 13) for _ in goods]
    words = [amount(count, good) for count, good in zip(counts, goods, strict=True)]
    short = [f"{count} {text.split()[1]}" for count, text in zip(counts, words, strict=True)]
    name = draw.choice(NAMES)
    return draw.choice(
        [
            (f"Say: {name} has {listing(words)}.", f"{name} has {listing(words)}."),
            (f"Write with digits: {listing(words)}", ", ".join(short)),
            (f"Write with digits: {', '.join(words)}", ", ".join(short)),
            (f"Write in words: {', '.join(short)}", ", ".join(words)),
            (f"Write one of each: {listing(words)}", ", ".join(goods)),
            (f"Greet {name}.", f"Hello {name}!"),
        ]
    )


CARRIERS = (
    "My sister has {a}.",
    "{name} bought {a} in {town}.",
    "We saw {a} in the {place}.",
    "Yesterday {name} dreamed of {a}.",
    "There is {a} on the picture.",
    "{name} drew {a}.",
    "I like {a}.",
    "On Monday {name} got {a} as a present.",
)


def kinds(draw: Random) -> Turn:
    """What kind of thing a word is: asked for itself, or for a word met in a sentence."""
    kind = draw.choice(list(GROUPS))
    word = draw.choice(GROUPS[kind])
    thing, what = with_article(word), with_article(kind)
    said = f"{thing[0].upper()}{thing[1:]} is {what}."
    if draw.random() < 0.5:
        asked = draw.choice([f"What is {thing}?", f"What kind of thing is {thing}?"])
        return asked, said
    sentence = draw.choice(CARRIERS).format(
        a=thing, name=draw.choice(NAMES), town=draw.choice(TOWNS), place=draw.choice(PLACES)
    )
    asked = draw.choice(["What kind of thing is that?", "What is that?", "What is it about?"])
    return f"{sentence} {asked}", said


def echo(draw: Random) -> Turn:
    """Say words again: the plainest question that asks for copying."""
    text = ", ".join(draw.sample(WORDS, draw.choice([1, 1, 2, 3])))
    return draw.choice(["Repeat: {}", "Say {}.", "Write: {}"]).format(text), text


TASKS: dict[Callable[[Random], Turn], float] = {
    colour: 1.0,
    capital: 0.8,
    animal: 1.6,
    opposite: 1.0,
    plural: 1.2,
    digits: 0.6,
    arithmetic: 1.0,
    letters: 0.6,
    order: 0.8,
    calendar: 0.7,
    job: 0.8,
    group: 2.0,
    kinds: 4.0,
    copy: 1.4,
    echo: 1.6,
}


def question(draw: Random) -> Turn:
    """One question and its plain answer."""
    return draw.choices(list(TASKS), weights=list(TASKS.values()))[0](draw)
