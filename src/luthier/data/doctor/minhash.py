"""MinHash: how much two texts have in common, from 64 numbers each.

Source: Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900; banding as in Leskovec, Rajaraman
and Ullman, Mining of Massive Datasets, section 3.4.
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5
HASHES, BANDS = 64, 16
MOST_CHARACTERS = 4000
_SPACE = re.compile(r"\s+")
_RANDOM = np.random.Generator(np.random.Philox(key=20))
_FACTORS = _RANDOM.integers(1, 2**32, HASHES, np.uint64) | np.uint64(1)
_OFFSETS = _RANDOM.integers(0, 2**63, HASHES, np.uint64)
_POWERS = np.array([1_000_003**power % 2**61 for power in range(SHINGLE)], np.uint64)
_GROUP = 64  # earlier rows of one band that a row is compared with


def signature(text: str) -> NDArray[np.uint32] | None:
    """64 numbers; the share of them that two texts have in common estimates the share of pieces of
    five characters.  None for texts shorter than 20 characters.

    Case and white space are left aside, and what is behind the first 4,000 characters.
    """
    plain = _SPACE.sub(" ", text[:MOST_CHARACTERS]).strip().lower()
    if len(plain) < 4 * SHINGLE:
        return None
    points = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    count = len(points) - SHINGLE + 1
    pieces = np.zeros(count, np.uint64)
    for place, power in enumerate(_POWERS):
        pieces += points[place : place + count] * power
    pieces ^= pieces >> np.uint64(29)
    mixed = pieces[None, :] * _FACTORS[:, None] + _OFFSETS[:, None]
    least: NDArray[np.uint32] = (mixed >> np.uint64(32)).min(axis=1).astype(np.uint32)
    return least


def similar_pairs(table: NDArray[np.uint32], least: float) -> Iterator[tuple[int, int, float]]:
    """(later, earlier, share) for every row that is at least so similar to an earlier one.

    Candidates are rows that agree in one of 16 bands of four numbers: at a similarity of 0.8 all
    but one in 4,000 pairs do.
    """
    width = HASHES // BANDS
    best: dict[int, tuple[float, int]] = {}
    for band in range(BANDS):
        part = np.ascontiguousarray(table[:, band * width : (band + 1) * width])
        keys = part.view(np.dtype((np.void, part.dtype.itemsize * width))).ravel()
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        edges = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        ends = np.append(edges[1:], len(ordered))
        for start, stop in zip(edges[ends - edges > 1], ends[ends - edges > 1], strict=True):
            _compare(table, order[start:stop], least, best)
    for later in sorted(best):
        yield later, best[later][1], best[later][0]


def _compare(
    table: NDArray[np.uint32],
    group: NDArray[np.int64],
    least: float,
    best: dict[int, tuple[float, int]],
) -> None:
    """Each row of a group with those before it, at most 64 of them."""
    for place in range(1, len(group)):
        later = int(group[place])
        if later in best:
            continue
        earlier = group[:place][:_GROUP]
        same = (table[earlier] == table[later]).sum(axis=1)
        top = int(same.argmax())
        if same[top] >= least * HASHES:
            best[later] = (int(same[top]) / HASHES, int(earlier[top]))
