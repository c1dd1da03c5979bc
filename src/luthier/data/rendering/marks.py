"""Where the sequences of a row agree, and where truncation took tokens: marks for a person's eye."""

import itertools
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np

from luthier.data.rendering.drafts import Piece
from luthier.data.types import Ids


@dataclass(frozen=True, slots=True)
class Marked:
    """A stretch of one kind: part of a piece.

    Args:
        shared: The tokens are also the beginning of an earlier sequence: computed once.
        cut: Truncation takes the tokens; the model never sees them.
    """

    text: str
    ids: Ids
    weight: float
    kind: str
    shared: bool
    cut: bool


def ids_of(pieces: Items[Piece]) -> Ids:
    """All tokens of a sequence."""
    return np.concatenate([piece.ids for piece in pieces]) if pieces else np.empty(0, np.int32)


def common_prefix(first: Ids, second: Ids) -> int:
    """Tokens with which both begin."""
    size = min(len(first), len(second))
    differ = np.flatnonzero(first[:size] != second[:size])
    return int(differ[0]) if len(differ) else size


def shared_tokens(sequences: Items[Ids]) -> list[int]:
    """For each sequence, the tokens at its beginning that an earlier one has as well."""
    return [
        max((common_prefix(ids, before) for before in sequences[:place]), default=0)
        for place, ids in enumerate(sequences)
    ]


def cut_spans(whole: Ids, kept: Ids) -> list[tuple[int, int]] | None:
    """The stretches of `whole`, from and up to, that are missing in `kept`: at most two.

    Returns:
        None where the rest was tokenised anew, so that no stretch of the whole says what is missing.
    """
    front = common_prefix(whole, kept)
    rest = kept[front:]
    at = _find(whole, rest, front) if len(rest) else front
    if at is None:
        return None
    spans = [(front, at), (at + len(rest), len(whole))]
    return [(start, stop) for start, stop in spans if start < stop]


def _find(whole: Ids, part: Ids, start: int) -> int | None:
    """Where `part` stands in `whole`, at `start` or later."""
    text, wanted, size = whole.tobytes(), part.tobytes(), whole.itemsize
    at = text.find(wanted, start * size)
    while at >= 0 and at % size:  # bytes of two neighbours that happen to look like a token
        at = text.find(wanted, at + 1)
    return at // size if at >= 0 else None


def mark(
    pieces: Items[Piece], decode: Callable[[Ids], str], *, shared: int, cuts: Items[tuple[int, int]]
) -> list[Marked]:
    """Pieces split where sharing ends, where the cut begins and ends, and behind the first token,
    which nothing predicts, if its piece carries weight."""
    places = [shared, *(edge for span in cuts for edge in span)]
    if pieces and pieces[0].weight:
        places.append(1)
    found: list[Marked] = []
    at = 0
    for piece in pieces:
        end = at + len(piece.ids)
        edges = sorted({at, end, *(edge for edge in places if at < edge < end)})
        for left, right in itertools.pairwise(edges):
            ids = piece.ids[left - at : right - at]
            text = piece.text if len(edges) == 2 else decode(ids)
            cut = any(start <= left < stop for start, stop in cuts)
            weight = piece.weight if left else 0.0
            found.append(Marked(text, ids, weight, piece.kind, right <= shared, cut))
        at = end
    return found
