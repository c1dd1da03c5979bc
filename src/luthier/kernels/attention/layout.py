"""Where the nodes of a prefix tree lie in the row, and which calls compute its attention.

T: rows.  A newcomer would get wrong: with the nodes depth-first, *all* descendants of a node are
one contiguous run of rows right behind it.  Attention to a shared prefix is therefore one
unmasked call for the whole subtree, not one per descendant, and no key is ever copied.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from luthier.kernels.attention.flash import Call

Span = tuple[int, int]

CHUNK = 512
"""Queries of one masked call: bounds its mask and its scores, whatever the length of a node."""


class NodeLike(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def path(self) -> tuple[Span, ...]: ...


class BatchLike(Protocol):
    """What a packed batch (`luthier.data.packing.pack`) has to offer."""

    @property
    def nodes(self) -> Sequence[NodeLike]: ...


class TreeCall(NamedTuple):
    """Queries of some rows against the keys of one run of rows."""

    start: int
    stop: int
    k_start: int
    k_stop: int
    causal: bool  # queries and keys are the same rows; else every query sees every key


class ChunkCall(NamedTuple):
    """Queries of some rows against all they may see, gathered from several runs of rows."""

    start: int
    stop: int
    depth: int  # of the first query
    spans: tuple[Span, ...]  # keys in order of depth
    k_depth: int  # of the first key


class Level(NamedTuple):
    """All nodes of one depth that have descendants, seen by these; `outside_T` are the other rows."""

    call: Call
    outside_T: Tensor


class WindowKeys(NamedTuple):
    """Each node with the keys of its path within a window, which are copied: row by row in `keys`."""

    call: Call
    keys: Tensor


@dataclass(frozen=True, eq=False)
class TreeLayout:
    """The tree of one micro-batch, ready for the attention of every layer."""

    num_tokens: int
    nodes: tuple[tuple[int, int, tuple[Span, ...]], ...]  # start, stop, path
    max_depth: int  # tokens of the longest path, its own node included
    max_q: int
    device: torch.device
    tree_calls: tuple[TreeCall, ...]
    _chunks: dict[int | None, tuple[ChunkCall, ...]] = field(default_factory=dict, repr=False)
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)  # for the next layer

    @classmethod
    def from_batch(cls, batch: BatchLike, device: torch.device | str = "cpu") -> "TreeLayout":
        """Read the tree of a packed batch; index tensors go to `device` when a layer first asks."""
        nodes = tuple((node.start, node.stop, tuple(node.path)) for node in batch.nodes)
        return cls(
            num_tokens=nodes[-1][1],
            nodes=nodes,
            max_depth=max(stop - start + _length(path) for start, stop, path in nodes),
            max_q=max(stop - start for start, stop, _ in nodes),
            device=torch.device(device),
            tree_calls=tuple(_tree_calls(nodes)),
        )

    @property
    def is_forest_of_leaves(self) -> bool:
        """Whether nothing is shared: every node is a root."""
        return not any(path for _, _, path in self.nodes)

    def cuts(self, window: int | None) -> bool:
        """Whether a window of that many tokens hides anything in this tree."""
        return window is not None and window < self.max_depth

    def node_calls(self) -> tuple[ChunkCall, ...]:
        """One call a node with all the keys of its path."""
        return tuple(
            ChunkCall(start, stop, _length(path), (*path, (start, stop)), 0)
            for start, stop, path in self.nodes
        )

    def chunk_calls(self, window: int | None) -> tuple[ChunkCall, ...]:
        """At most `CHUNK` queries a call, each with the keys within `window`; kept for the next layer."""
        window = window if self.cuts(window) else None
        if window not in self._chunks:
            self._chunks[window] = tuple(
                call for node in self.nodes for call in _node_chunks(node, window)
            )
        return self._chunks[window]

    def own_call(self) -> Call:
        """Every node on itself, causal."""
        if "own" not in self._made:
            offsets = [0, *(stop for _, stop, _ in self.nodes)]
            cu = self._on_device([offsets])[0]
            self._made["own"] = Call(cu, cu, self.max_q, self.max_q, True)
        call: Call = self._made["own"]
        return call

    def levels(self) -> tuple[Level, ...]:
        """For each depth of the tree its nodes with their descendants; none where nothing is shared."""
        if "levels" not in self._made:
            paths = {(start, stop): len(path) for start, stop, path in self.nodes}
            shared = [call for call in self.tree_calls if not call.causal]
            depths = sorted({paths[call.k_start, call.k_stop] for call in shared})
            by_depth = [
                [c for c in shared if paths[c.k_start, c.k_stop] == depth] for depth in depths
            ]
            self._made["levels"] = tuple(map(self._level, by_depth))
        levels: tuple[Level, ...] = self._made["levels"]
        return levels

    def _level(self, calls: Sequence[TreeCall]) -> Level:
        """Between two runs of descendants stand a sequence without keys and one without queries."""
        cu_q, cu_k, outside = [0], [0], np.ones(self.num_tokens, dtype=np.int32)
        for call in calls:
            cu_q += [call.start, call.start, call.stop]
            cu_k += [cu_k[-1], call.k_start, call.k_stop]
            outside[call.start : call.stop] = 0
        cu_q += [self.num_tokens, self.num_tokens]
        cu_k += [cu_k[-1], self.num_tokens]
        q, k, rows = self._on_device([cu_q, cu_k, outside])
        longest = max(call.stop - call.start for call in calls)
        most = max(call.k_stop - call.k_start for call in calls)
        return Level(Call(q, k, longest, most, False), rows.bool())

    def within(self, window: int) -> WindowKeys:
        """The keys that each node sees through a window of so many tokens."""
        if window not in self._made:
            spans = [
                (*_from_depth(path, max(0, _length(path) - window + 1)), (start, stop))
                for start, stop, path in self.nodes
            ]
            counts = [_length(own) for own in spans]
            keys = np.concatenate([np.arange(*span) for own in spans for span in own])
            cu_q = [0, *(stop for _, stop, _ in self.nodes)]
            q, k, index = self._on_device([cu_q, [0, *accumulate(counts)], keys])
            call = Call(q, k, self.max_q, max(counts), True)
            self._made[window] = WindowKeys(call, index.long())
        seen: WindowKeys = self._made[window]
        return seen

    def _on_device(self, arrays: Sequence[Sequence[int] | NDArray[Any]]) -> list[Tensor]:
        """Integers as int32, all in one copy that the host does not wait for."""
        parts = [np.asarray(array, dtype=np.int32) for array in arrays]
        whole = torch.from_numpy(np.concatenate(parts))
        if self.device.type == "cuda":
            whole = whole.pin_memory().to(self.device, non_blocking=True)
        return list(whole.split([len(part) for part in parts]))


def _length(spans: Sequence[Span]) -> int:
    return sum(stop - start for start, stop in spans)


def _tree_calls(nodes: Sequence[tuple[int, int, tuple[Span, ...]]]) -> list[TreeCall]:
    """Every node on itself, then every node that has descendants for all of them at once."""
    subtree_stop = {(start, stop): stop for start, stop, _ in nodes}
    for _, stop, path in nodes:
        for ancestor in path:
            subtree_stop[ancestor] = max(subtree_stop[ancestor], stop)
    own = [TreeCall(start, stop, start, stop, True) for start, stop, _ in nodes]
    shared = [
        TreeCall(stop, subtree_stop[start, stop], start, stop, False)
        for start, stop, _ in nodes
        if subtree_stop[start, stop] > stop
    ]
    return own + shared


def _node_chunks(node: tuple[int, int, tuple[Span, ...]], window: int | None) -> list[ChunkCall]:
    start, stop, path = node
    depth = _length(path)
    calls = []
    for first in range(start, stop, CHUNK):
        last = min(first + CHUNK, stop)
        q_depth = depth + first - start
        k_depth = 0 if window is None else max(0, q_depth - window + 1)
        spans = _from_depth((*path, (start, last)), k_depth)
        calls.append(ChunkCall(first, last, q_depth, spans, k_depth))
    return calls


def _from_depth(spans: Sequence[Span], depth: int) -> tuple[Span, ...]:
    """The spans without their first `depth` rows."""
    begins = accumulate((stop - start for start, stop in spans), initial=0)
    cut = [
        (start + max(0, depth - begin), stop)
        for (start, stop), begin in zip(spans, begins, strict=False)
    ]
    return tuple((start, stop) for start, stop in cut if start < stop)
