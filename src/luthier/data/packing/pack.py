"""A micro-batch as a prefix tree laid out in one row.

T: tokens in the row (nodes of the tree).  S: supervised targets.  Each distinct prefix is laid
out once; a branch point predicts one target per child, so a row may serve several targets.
Nothing is padded, and nothing is shifted across a boundary: the row that predicts a target is
looked up along the path of its own sequence.

    sequences  a b c d      row        a b c d x        node 0  [0, 3)  path ()
               a b c x      positions  0 1 2 3 3        node 1  [3, 4)  path ((0, 3),)
                                                        node 2  [4, 5)  path ((0, 3),)
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from luthier.data.packing.trie import MIN_SHARED, Trie, grow
from luthier.data.types import Ids, Sequence
from luthier.errors import NoTargetsError

Span = tuple[int, int]


class Node(NamedTuple):
    """A run of tokens with one parent: its rows [start, stop) and its ancestors', root first."""

    start: int
    stop: int
    path: tuple[Span, ...]


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """The prefix tree of some sequences in one row, and what each supervised token is read from."""

    ids: NDArray[np.int32]  # (T,)
    positions: NDArray[np.int32]  # (T,) depth in the tree: restarts at 0 at each root
    nodes: tuple[Node, ...]  # depth-first
    target_row: NDArray[np.int32]  # (S,) the row that predicts the target
    target_token: NDArray[np.int32]  # (S,)
    target_weight: NDArray[np.float32]  # (S,) never 0
    target_sequence: NDArray[np.int32]  # (S,) index into the sequences as they were given
    num_sequences: int
    sample_T: NDArray[np.int64]  # (T,) sample of each token; of the first owner where shared
    sequence_samples: NDArray[np.int32]  # (num_sequences,)

    @cached_property
    def cu_q(self) -> NDArray[np.int32]:
        """Cumulative lengths of the nodes, (nodes + 1,)."""
        return _cumulative([node.stop - node.start for node in self.nodes])

    @cached_property
    def cu_k(self) -> NDArray[np.int32]:
        """Cumulative lengths of what each node attends to: its path and itself, (nodes + 1,)."""
        lengths = [
            node.stop - node.start + sum(stop - start for start, stop in node.path)
            for node in self.nodes
        ]
        return _cumulative(lengths)

    @cached_property
    def kv_index(self) -> NDArray[np.int64]:
        """Rows that the nodes attend to, one node after the other, (cu_k[-1],)."""
        spans = [span for node in self.nodes for span in (*node.path, (node.start, node.stop))]
        return np.concatenate([np.arange(start, stop) for start, stop in spans])

    @property
    def units(self) -> float:
        """Summed weight of the targets."""
        return float(self.target_weight.sum(dtype=np.float64))


def inputs_of(sequence: Sequence) -> Ids:
    """The ids that have to be laid out: everything before the last supervised target.

    That target is predicted, not read, and nothing needs what comes after it.
    """
    supervised = np.flatnonzero(sequence.weights[1:])
    return sequence.ids[: int(supervised[-1]) + 1] if len(supervised) else sequence.ids[:0]


def pack(
    sequences: Many[Sequence],
    *,
    share: bool = True,
    min_shared: int = MIN_SHARED,
    sample_ids: Many[int] | None = None,
) -> PackedBatch:
    """Lay the sequences of a micro-batch out as a prefix tree.

    Args:
        sequences: In the order that `target_sequence` refers to.
        share: Whether a common prefix is laid out once; False gives one root per sequence.
        min_shared: Tokens that a branch must save, >= 1.
        sample_ids: The sample that each sequence belongs to; by default its own index.

    Raises:
        NoTargetsError: No sequence has a supervised token behind its first.
    """
    rows = [inputs_of(sequence) for sequence in sequences]
    trie = grow(rows, share=share, min_shared=min_shared)
    if not trie.branches:
        raise NoTargetsError(
            f"none of the {len(sequences)} sequences of this micro-batch has a supervised token",
            why="a batch without targets has no loss; the first token of a sequence is no target",
            fix="luthier data show FILE --row N --model M shows what carries loss",
        )
    samples = np.arange(len(sequences)) if sample_ids is None else np.asarray(sample_ids)
    nodes = _nodes(trie)
    row, token, weight, sequence = _targets(sequences, trie, nodes)
    branches = list(zip(trie.branches, nodes, strict=True))
    lengths = [node.stop - node.start for node in nodes]
    owners = np.array([branch.owner for branch in trie.branches])
    return PackedBatch(
        ids=np.concatenate([rows[b.owner][b.base : b.stop] for b, _ in branches]).astype(np.int32),
        positions=np.concatenate([np.arange(b.base, b.stop, dtype=np.int32) for b, _ in branches]),
        nodes=nodes,
        target_row=row,
        target_token=token,
        target_weight=weight,
        target_sequence=sequence,
        num_sequences=len(sequences),
        sample_T=np.repeat(samples[owners].astype(np.int64), lengths),
        sequence_samples=samples.astype(np.int32),
    )


def _nodes(trie: Trie) -> tuple[Node, ...]:
    nodes: list[Node] = []
    start = 0
    for branch in trie.branches:
        stop = start + branch.stop - branch.base
        path: tuple[Span, ...] = ()
        if branch.parent >= 0:
            parent = nodes[branch.parent]
            path = (*parent.path, (parent.start, parent.stop))
        nodes.append(Node(start, stop, path))
        start = stop
    return tuple(nodes)


def _targets(
    sequences: Many[Sequence], trie: Trie, nodes: tuple[Node, ...]
) -> tuple[
    NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]
]:  # row, token, weight, sequence
    rows, tokens, weights, owners = [], [], [], []
    for index, sequence in enumerate(sequences):
        chain = trie.chain(index)
        if not chain:
            continue
        row_of_depth = np.concatenate([np.arange(nodes[n].start, nodes[n].stop) for n in chain])
        target = np.flatnonzero(sequence.weights[1:])  # target t + 1 is predicted from depth t
        rows.append(row_of_depth[target])
        tokens.append(sequence.ids[target + 1])
        weights.append(sequence.weights[target + 1])
        owners.append(np.full(len(target), index))
    return (
        np.concatenate(rows).astype(np.int32),
        np.concatenate(tokens).astype(np.int32),
        np.concatenate(weights).astype(np.float32),
        np.concatenate(owners).astype(np.int32),
    )


def _cumulative(lengths: list[int]) -> NDArray[np.int32]:
    return np.cumsum([0, *lengths], dtype=np.int32)
