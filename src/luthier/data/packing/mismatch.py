"""Answers behind prompts that they do not belong to: what KTO estimates its divergence on."""

from collections.abc import Sequence as Many

import numpy as np

from luthier.data.packing.steps import permutation
from luthier.data.types import Example, Sequence
from luthier.errors import NoRowsError


def mismatched(examples: Many[Example], *, seed: int, limit: int) -> list[Example]:
    """Each row's prompt with the answer of the row before it in the order of the first epoch.

    Over all rows every answer is there once, so the answers judged and those estimated on are the
    same set; and as the order is random, a row does not meet its neighbour in the file, which is
    often another answer to the same prompt.

    Args:
        examples: One sequence each.
        seed: Of the order.
        limit: Most tokens of a sequence; the answer is cut at its end.

    Raises:
        NoRowsError: Fewer than two rows: an answer would stand behind its own prompt.
    """
    if len(examples) < 2:
        raise NoRowsError(
            f"{len(examples)} row with a label, of those to learn from or of those held out",
            why="the divergence of KTO is estimated on answers behind other rows' prompts",
            fix="give at least two rows of each",
        )
    order = permutation(len(examples), seed=seed, epoch=0)
    before = np.empty(len(order), dtype=np.int64)
    before[order] = np.roll(order, 1)
    return [_joined(example, examples[before[at]], limit) for at, example in enumerate(examples)]


def _joined(asked: Example, answered: Example, limit: int) -> Example:
    (prompt,), (answer,) = asked.sequences, answered.sequences
    end, start = _first_target(prompt), _first_target(answer)
    ids = np.concatenate([prompt.ids[:end], answer.ids[start:]])[:limit]
    weights = np.concatenate([prompt.weights[:end], answer.weights[start:]])[:limit]
    return Example((Sequence(ids, weights),), asked.origin)


def _first_target(sequence: Sequence) -> int:
    return int(np.flatnonzero(sequence.weights)[0])
