"""Texts cut into weighted spans, and their tokens: the last step before a sequence."""

import itertools
import re
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Ids, Sequence

_WORD = re.compile(r"\S+")


class Span(NamedTuple):
    """A stretch of text with one loss weight; `kind` says what it is for `luthier data show`."""

    start: int
    stop: int
    weight: float
    kind: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A text cut into spans that follow each other without a gap.

    `nonce` stands inside control texts of content and is taken out before encoding.  `begin` is
    a BOS the text lacks and gets; `finish` an end token, supervised with the last span.
    """

    text: str
    spans: tuple[Span, ...]
    nonce: str = ""
    begin: int | None = None
    finish: int | None = None


class Piece(NamedTuple):
    """A stretch of text, its tokens, and their weight; `kind` is control, prompt, answer, text, bos
    or eos."""

    text: str
    ids: Ids
    weight: float
    kind: str


def joined_spans(
    text: str, cuts: Items[int], spans: Items[Span], background: tuple[int, float] = (0, 0.0)
) -> tuple[Span, ...]:
    """The spans, and between them the prompt, cut at `cuts` and weighted from `background` on."""
    start_weight, weight = background
    edges = sorted({0, len(text), *cuts, *((start_weight,) if weight else ())})
    edges = sorted({*edges, *(edge for span in spans for edge in span[:2])})
    made = []
    for start, stop in itertools.pairwise(edges):
        inside = next((span for span in spans if span.start <= start < span.stop), None)
        if inside is not None:
            made.append(Span(start, stop, inside.weight, inside.kind))
        else:
            made.append(Span(start, stop, weight if start >= start_weight else 0.0, "prompt"))
    return tuple(made)


def pieces(tokenizer: Tokenizer, draft: Draft) -> list[Piece]:
    """The tokens of a draft: each span split at the control tokens that are not content's."""
    nonce = draft.nonce
    made: list[Piece] = []
    after_text = False

    def put(text: str, weight: float, kind: str, number: int | None = None) -> None:
        nonlocal after_text
        text = text.replace(nonce, "") if nonce else text
        if number is not None:
            made.append(Piece(text, np.array([number], np.int32), weight, kind))
        elif text:
            at_start = not made
            ids = tokenizer.encode_piece(text, continued=after_text, at_start=at_start)
            made.append(Piece(text, ids, weight, kind))
        after_text = number is None and (after_text or bool(text))

    if draft.begin is not None:
        put(tokenizer.bos, 0.0, "bos", draft.begin)
    for start, stop, weight, kind in draft.spans:
        text, done = draft.text[start:stop], 0
        for first, last, number in tokenizer.find_controls(text):
            put(text[done:first], weight, kind)
            put(text[first:last], weight, "control" if kind == "prompt" else kind, number)
            done = last
        put(text[done:], weight, kind)
    if draft.finish is not None:
        put(tokenizer.eos, draft.spans[-1].weight if draft.spans else 0.0, "eos", draft.finish)
    return made


def sequence_of(pieces: Items[Piece]) -> Sequence:
    if not pieces:
        return Sequence(np.zeros(0, np.int32), np.zeros(0, np.float32))
    ids = np.concatenate([piece.ids for piece in pieces]).astype(np.int32)
    sizes = [len(piece.ids) for piece in pieces]
    weights = np.repeat(np.array([piece.weight for piece in pieces], np.float32), sizes)
    weights[:1] = 0.0  # nothing predicts the first token
    return Sequence(ids, weights)


def shared_length(first: str, second: str) -> int:
    """Number of characters that two texts begin with in common."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first.startswith(second[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low


def same_but_for_space(text: str, beginning: str) -> int | None:
    """Where a text has said what `beginning` says, white space inside it aside.

    Returns:
        The place behind it, with the white space that `beginning` ends with; None where they differ.
    """
    wanted = "".join(beginning.split())
    done = 0
    for found in _WORD.finditer(text):
        word = found.group()[: len(wanted) - done]
        if wanted[done : done + len(word)] != word:
            return None
        done += len(word)
        if done == len(wanted):
            at = found.start() + len(word)
            ending = beginning[len(beginning.rstrip()) :]
            return at + len(ending) if text.startswith(ending, at) else None
    return None
