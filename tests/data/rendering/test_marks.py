"""Marks of sharing and cutting say exactly what the model gets."""

import numpy as np
import pytest

from luthier.data.rendering.drafts import Piece
from luthier.data.rendering.marks import cut_spans, ids_of, mark, shared_tokens


def ids(*tokens):
    return np.array(tokens, np.int32)


WHOLE = ids(1, 7, 8, 9, 7, 5, 6, 2)


@pytest.mark.parametrize(
    ("kept", "spans"),
    [
        (WHOLE, []),
        (ids(1, 7, 8, 9), [(4, 8)]),
        (ids(1, 9, 7, 5, 6, 2), [(1, 3)]),
        (ids(1, 9, 7, 5), [(1, 3), (6, 8)]),
        (ids(1, 7, 5, 6, 2), [(2, 5)]),  # the first 7 may be either: what is left is the same
        (ids(1, 3, 4), None),
    ],
)
def test_what_was_cut_is_found(kept, spans):
    assert cut_spans(WHOLE, kept) == spans
    if spans is not None:
        left = np.ones(len(WHOLE), bool)
        for start, stop in spans:
            left[start:stop] = False
        assert WHOLE[left].tolist() == kept.tolist()


def test_a_match_must_begin_with_a_token():
    whole, kept = ids(9, 256, 1, 1), ids(9, 1)
    assert cut_spans(whole, kept) == [(1, 2), (3, 4)]


def test_sharing_counts_the_longest_common_beginning():
    assert shared_tokens([ids(1, 2, 3), ids(1, 2, 4), ids(1, 2, 4, 5), ids(9)]) == [0, 2, 3, 0]


def test_pieces_are_split_where_marks_change_and_lose_no_token():
    pieces = [Piece("abc", ids(1, 2, 3), 0.0, "prompt"), Piece("de", ids(4, 5), 1.0, "answer")]
    found = mark(pieces, lambda some: f"<{some.tolist()}>", shared=2, cuts=[(1, 4)])
    assert ids_of([Piece(m.text, m.ids, m.weight, m.kind) for m in found]).tolist() == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert [(m.shared, m.cut) for m in found] == [
        (True, False), (True, True), (False, True), (False, True), (False, False)
    ]  # fmt: skip
    assert found[0].text == "<[1]>"
