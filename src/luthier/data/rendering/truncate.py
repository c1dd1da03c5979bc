"""Rows longer than `seq_length`.  Pure: what to cut is decided here, tokens come from the caller.

`prompt_start` takes the oldest whole turns, then text from the start of what is left of the prompt,
and touches the answer only when nothing of the prompt is left to take; system text stays.  It works
on messages and renders again, so that what remains is always a well-formed prompt.
"""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items

import numpy as np

from luthier.data.rendering.turns import Messages, shortened, without_oldest_turn
from luthier.data.types import Cut, Sequence

Build = Callable[[Messages], tuple[Sequence, ...]]
Locate = Callable[[str], list[tuple[int, int]]]


def longest(sequences: Items[Sequence]) -> int:
    """Tokens of the longest sequence."""
    return max((len(sequence.ids) for sequence in sequences), default=0)


def targets(sequence: Sequence) -> int:
    """Number of supervised tokens."""
    return int(np.count_nonzero(sequence.weights))


def cut_end(sequence: Sequence, limit: int) -> Sequence:
    """The first `limit` tokens; no terminator is put where the cut fell."""
    return Sequence(sequence.ids[:limit], sequence.weights[:limit])


def cut_prompt(
    messages: Messages,
    build: Build,
    limit: int,
    *,
    locate: Locate,
    before: Callable[[Messages], int],
) -> tuple[tuple[Sequence, ...], int]:
    """Shorten a prompt from its start until every sequence has at most `limit` tokens, if it can.

    Args:
        build: Renders messages to the sequences of a row; all of them share the prompt.
        locate: Character span of each token of a text.
        before: Number of leading messages whose text may be taken.

    Returns:
        The sequences, perhaps still too long, and the number of whole turns taken.
    """
    candidates = [messages]
    while (fewer := without_oldest_turn(candidates[-1])) is not None:
        candidates.append(fewer)
    messages, sequences, turns = _fewest_turns(candidates, build, limit)
    taken = 0
    while (excess := longest(sequences) - limit) > 0:
        wanted = taken + _characters(messages, taken, excess, locate, before(messages))
        shorter, could = shortened(messages, wanted, before=before(messages))
        if could <= taken:
            break
        taken, sequences = could, build(shorter)
    return sequences, turns


def cut_each(
    units: Iterable[tuple[Messages, Sequence]],
    build: Build,
    limit: int,
    *,
    locate: Locate,
    before: Callable[[Messages], int],
) -> tuple[tuple[Sequence, ...], int]:
    """Every text of a row that is too long cut by `cut_prompt`, and the whole turns taken of all.

    Args:
        units: Messages and the sequence that they make.
    """
    made: list[Sequence] = []
    turns = 0
    for unit, sequence in units:
        if len(sequence.ids) <= limit:
            made.append(sequence)
            continue
        cut, taken = cut_prompt(unit, build, limit, locate=locate, before=before)
        made, turns = [*made, *cut], turns + taken
    return tuple(made), turns


def _fewest_turns(
    candidates: Items[Messages], build: Build, limit: int
) -> tuple[Messages, tuple[Sequence, ...], int]:
    """The first candidate that fits and learns something, by bisection; else the last that learns."""
    low, high = 0, len(candidates) - 1
    built: dict[int, tuple[Sequence, ...]] = {}

    def learns(index: int) -> bool:
        built.setdefault(index, build(candidates[index]))
        return all(targets(sequence) for sequence in built[index])

    while high > 0 and not learns(high):
        high -= 1
    while low < high:
        middle = (low + high) // 2
        if learns(middle) and longest(built[middle]) <= limit:
            high = middle
        else:
            low = middle + 1
    learns(low)
    return candidates[low], built[low], low


def _characters(messages: Messages, taken: int, excess: int, locate: Locate, before: int) -> int:
    """How many characters hold the next `excess` tokens of the prompt's text."""
    texts, _ = shortened(messages, taken, before=before)
    characters = 0
    for message in texts[:before]:
        if message.role not in ("user", "tool") or not message.content:
            continue
        spans = locate(message.content)
        if len(spans) >= excess:
            return characters + max(spans[excess - 1][1], 1)
        characters += len(message.content)
        excess -= len(spans)
    return characters + 1


def cut_of(before: Items[Sequence], after: Items[Sequence], turns: int) -> Cut:
    """What was taken, of prompt and answer, over all sequences of a row."""
    answer = sum(map(targets, before)) - sum(map(targets, after))
    tokens = sum(len(item.ids) for item in before) - sum(len(item.ids) for item in after)
    return Cut(prompt_tokens=max(tokens - answer, 0), answer_tokens=answer, turns=turns)


def chunks(sequence: Sequence, length: int) -> tuple[Sequence, ...]:
    """Consecutive pieces of at most `length` tokens in which every token is a target once.

    Each piece but the first begins with the last token of the one before it, as context only.
    """
    if len(sequence.ids) <= length:
        return (sequence,)
    made = []
    for start in range(0, len(sequence.ids) - 1, length - 1):
        weights = sequence.weights[start : start + length].copy()
        weights[0] = 0.0
        made.append(Sequence(sequence.ids[start : start + length], weights))
    return tuple(made)


def histogram(lengths: Items[int], limit: int) -> str:
    """Lengths as counts in powers of two, for the message that rows are too long."""
    if not lengths:
        return ""
    counts: dict[int, int] = {}
    for length in lengths:
        edge = 1 << max(length - 1, 1).bit_length()
        counts[edge] = counts.get(edge, 0) + 1
    parts = [f"up to {edge}: {count}" for edge, count in sorted(counts.items())]
    return f"{', '.join(parts)} tokens (limit {limit}, longest {max(lengths)})"
