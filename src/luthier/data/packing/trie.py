"""The token trie of a few sequences, compressed: where prefixes are stored once, and where not.

A newcomer would get wrong: the order of the branches follows the order of the *sequences*, not
that of the token ids.  Changing a token therefore never moves another sequence's rows as long as
the shape of the tree stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from luthier.data.types import Ids

MIN_SHARED = 16
"""Tokens a branch must save.  Below this the extra attention call costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A run of tokens from depth `base` to depth `stop`, read from the ids of sequence `owner`."""

    base: int
    stop: int
    owner: int  # the first sequence, in input order, that goes through it
    parent: int  # index of the parent branch, -1 for a root


@dataclass(frozen=True, slots=True)
class Trie:
    """Branches in depth-first order, and for each sequence the branch it ends in (-1: no tokens)."""

    branches: tuple[Branch, ...]
    last: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        return sum(branch.stop - branch.base for branch in self.branches)

    def chain(self, sequence: int) -> list[int]:
        """Indices of the branches from the root to where `sequence` ends."""
        found: list[int] = []
        branch = self.last[sequence]
        while branch >= 0:
            found.append(branch)
            branch = self.branches[branch].parent
        return found[::-1]


def sort_key(ids: Ids) -> bytes:
    """Bytes that compare as the ids do, token by token (ids are never negative)."""
    return ids.astype(">u4").tobytes()


def common_prefix(a: Ids, b: Ids) -> int:
    """Number of leading tokens that two sequences share."""
    shorter = min(len(a), len(b))
    differs = a[:shorter] != b[:shorter]
    first = int(differs.argmax()) if shorter else 0
    return first if shorter and differs[first] else shorter


def grow(rows: Sequence[Ids], *, share: bool, min_shared: int = MIN_SHARED) -> Trie:
    """Build the trie of `rows`; a branch is shared only where that saves `min_shared` tokens.

    Args:
        rows: Token ids of each sequence; empty ones take no part.
        share: False gives every sequence a root of its own.
        min_shared: Tokens, >= 1.  With k children, a shared run of n tokens saves n * (k - 1).
    """
    used = [index for index, ids in enumerate(rows) if len(ids)]
    if share and len(used) > 1:
        runs = _shared_runs(rows, used, min_shared)
    else:
        runs = [_Run(0, len(rows[index]), -1, [index], True) for index in used]
    return _depth_first(runs, len(rows))


@dataclass(slots=True)
class _Run:
    base: int
    stop: int
    parent: int
    members: list[int]
    final: bool  # a sequence ends here, rather than several going on


def _shared_runs(rows: Sequence[Ids], used: list[int], min_shared: int) -> list[_Run]:
    """Split the sorted sequences at their shortest common prefixes, from the root down."""
    order = sorted(used, key=lambda index: sort_key(rows[index]))
    prefix = np.array(
        [0, *(common_prefix(rows[a], rows[b]) for a, b in pairwise(order))], dtype=np.int64
    )
    runs: list[_Run] = []
    groups = [(0, len(order), 0, -1)]  # from, to (in sorted order), depth reached, parent run
    while groups:
        low, high, base, parent = groups.pop()
        if high - low == 1:
            member = order[low]
            runs.append(_Run(base, len(rows[member]), parent, [member], True))
            continue
        depth, bounds = _split(prefix, low, high)
        if depth > base and (depth - base) * (len(bounds) - 2) >= min_shared:
            runs.append(_Run(base, depth, parent, order[low:high], False))
            base, parent = depth, len(runs) - 1
        groups.extend((a, b, base, parent) for a, b in pairwise(bounds))
    return runs


def _split(prefix: NDArray[np.int64], low: int, high: int) -> tuple[int, list[int]]:
    """Common prefix of the sorted sequences low..high, and where they part."""
    inner = prefix[low + 1 : high]
    depth = int(inner.min())
    cuts = np.flatnonzero(inner == depth) + low + 1
    return depth, [low, *cuts.tolist(), high]


def _depth_first(runs: list[_Run], num_sequences: int) -> Trie:
    """Lay runs out depth-first, siblings in the order of their first sequence."""
    children: dict[int, list[int]] = {}
    for index, run in enumerate(runs):
        children.setdefault(run.parent, []).append(index)
    first = [min(run.members) for run in runs]
    branches: list[Branch] = []
    last = [-1] * num_sequences
    waiting = [(index, -1) for index in sorted(children.get(-1, []), key=first.__getitem__)[::-1]]
    while waiting:
        index, parent = waiting.pop()
        run = runs[index]
        if run.stop > run.base:
            branches.append(Branch(run.base, run.stop, first[index], parent))
            parent = len(branches) - 1
        if run.final:
            last[run.members[0]] = parent
        below = sorted(children.get(index, []), key=first.__getitem__)
        waiting.extend((child, parent) for child in below[::-1])
    return Trie(tuple(branches), tuple(last))
