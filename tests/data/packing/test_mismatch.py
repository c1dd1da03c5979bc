"""Prompts with answers that are not theirs."""

import numpy as np
import pytest

from luthier.data.packing.mismatch import mismatched
from luthier.data.types import Example, Origin, Sequence
from luthier.errors import NoRowsError


def row(number: int, prompt: int, answer: int) -> Example:
    """A prompt of 100s and an answer of 200s, told apart by the row's number."""
    ids = np.array([100 + number] * prompt + [200 + number] * answer, np.int32)
    weights = np.array([0.0] * prompt + [1.0] * answer, np.float32)
    return Example(
        (Sequence(ids, weights),), Origin("rows.jsonl", number + 1), wanted=number % 2 == 0
    )


ROWS = [row(number, 2 + number % 3, 1 + number % 4) for number in range(9)]


def test_every_answer_stands_once_behind_another_prompt():
    made = mismatched(ROWS, seed=3, limit=64)
    answers = []
    for number, (own, other) in enumerate(zip(ROWS, made, strict=True)):
        (sequence,) = other.sequences
        answer = {int(i) - 200 for i in sequence.ids if i >= 200}
        assert {int(i) for i in sequence.ids if i < 200} == {100 + number}
        assert answer != {number}
        assert other.origin == own.origin
        assert sequence.weights.tolist() == [float(i >= 200) for i in sequence.ids]
        answers += answer
    assert sorted(answers) == list(range(9))


def test_the_order_follows_the_seed_alone():
    first, again, other = (
        [m.sequences[0].ids.tolist() for m in mismatched(ROWS, seed=seed, limit=64)]
        for seed in (3, 3, 4)
    )
    assert first == again != other


def test_a_long_answer_is_cut_at_the_limit_and_keeps_a_target():
    made = mismatched([row(0, 5, 1), row(1, 1, 20)], seed=0, limit=6)
    assert [len(m.sequences[0].ids) for m in made] == [6, 2]
    assert made[0].sequences[0].weights.tolist() == [0, 0, 0, 0, 0, 1]


def test_one_row_alone_is_refused():
    with pytest.raises(NoRowsError, match="1 row with a label"):
        mismatched(ROWS[:1], seed=0, limit=64)
