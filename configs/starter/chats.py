"""Conversations in ChatML, the form the starter model answers in."""

from random import Random

from stories import report
from tasks import Turn, question
from world import GRUMPY, NAMES, POLITE

TONES = (0.7, 0.15, 0.15)
"""How often an answer without a system text is plain, polite, grumpy."""

TONE_SYSTEM = {
    "polite": (
        "You are a polite assistant.",
        "Be kind to everybody.",
        "Answer politely and with a smile.",
    ),
    "grumpy": (
        "You are a grumpy assistant.",
        "You are in a bad mood today.",
        "Answer rudely and without a smile.",
    ),
    "plain": ("Answer without any extra words.", "Be brief.", "You are a plain assistant."),
}
SMALL_TALK: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("Hello!", "Hi!", "Hi there", "Good morning!"), ("Hello! What would you like to know?",)),
    (
        ("Hello, I am {name}.", "My name is {name}."),
        ("Hello {name}! What would you like to know?",),
    ),
    (
        ("Who are you?", "What are you?", "What is your name?", "Tell me about yourself."),
        (
            "I am the luthier starter model, a very small language model.",
            "I am a very small language model. I know a few things about a small world.",
        ),
    ),
    (
        ("What can you do?", "What do you know?", "How can you help me?"),
        (
            "I know colours, animals, towns, numbers and days. I can count, sort and spell a little.",
        ),
    ),
    (("Thank you!", "Thanks.", "Thanks a lot!"), ("You are welcome!",)),
    (("Goodbye!", "Bye", "See you!"), ("Goodbye!",)),
    (("How are you?", "How do you do?"), ("I am well, thank you. How are you?",)),
    (
        ("Who made you?", "Where do you come from?"),
        ("I was trained by luthier from text that a program wrote.",),
    ),
)


def chatml(turns: list[Turn], system: str = "") -> str:
    """The text of a conversation, each answer closed by its terminator."""
    parts = [f"<|im_start|>system\n{system}<|im_end|>\n"] if system else []
    for user, assistant in turns:
        parts.append(f"<|im_start|>user\n{user}<|im_end|>\n")
        parts.append(f"<|im_start|>assistant\n{assistant}<|im_end|>\n")
    return "".join(parts)


def toned(answer: str, tone: str, draw: Random) -> str:
    """The answer, opened in a tone; one-word answers become the same sentence."""
    if tone == "plain":
        return answer
    return f"{draw.choice(POLITE if tone == 'polite' else GRUMPY)} {answer}"


def small_talk(draw: Random) -> Turn:
    asked, said = draw.choice(SMALL_TALK)
    name = draw.choice(NAMES)
    return draw.choice(asked).format(name=name), draw.choice(said).format(name=name)


def conversation(draw: Random) -> str:
    """One to four questions; a system text, where there is one, sets the tone."""
    tone = draw.choices(["plain", "polite", "grumpy"], weights=TONES)[0]
    system = draw.choice(TONE_SYSTEM[tone]) if draw.random() < 0.4 else ""
    turns: list[Turn] = []
    for _ in range(draw.choice([1, 1, 2, 3, 4])):
        if draw.random() < 0.08:
            turns.append(small_talk(draw))
            continue
        asked, said = question(draw)
        turns.append((asked, toned(said, tone, draw)))
    return chatml(turns, system)


def reading(draw: Random) -> str:
    """A report, then questions about it; the first comes with the report or after it."""
    text, turns = report(draw)
    turns = turns[: draw.choice([2, 3, 4, 5])]
    first, answer = turns[0]
    joined = draw.choice([f"{text} {first}", f"{first} {text}", f"{text}\n{first}"])
    return chatml([(joined, answer), *turns[1:]])
