"""The samples of a step, cut into micro-batches under a token budget.

The loss is a sum divided once, so the cut cannot change the update; it decides speed and memory
alone.  A newcomer would get wrong: tokens are those of the *tree*, so what a sample adds to a
micro-batch depends on what is already in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from luthier.data.packing.pack import inputs_of
from luthier.data.packing.trie import MIN_SHARED, common_prefix, grow, sort_key
from luthier.data.types import Example, Ids


class Sizes(NamedTuple):
    """What bounds a micro-batch."""

    budget: int  # rows of the tree, > 0; a sample that is larger stands alone
    share: bool
    min_shared: int = MIN_SHARED
    max_sequences: int | None = None  # a sample with more stands alone


@dataclass(slots=True)
class _Bin:
    samples: list[int]
    tokens: int
    sequences: int


def tree_tokens(examples: Sequence[Example], *, share: bool, min_shared: int = MIN_SHARED) -> int:
    """Rows of the micro-batch of these examples, exactly as `pack` lays it out."""
    rows = [inputs_of(sequence) for example in examples for sequence in example.sequences]
    return grow(rows, share=share, min_shared=min_shared).num_tokens


def cut(examples: Sequence[Example], samples: Sequence[int], sizes: Sizes) -> list[list[int]]:
    """Group samples into micro-batches: those that share prefixes first, then best use of the budget.

    A sample is never split.  The result depends on the set of samples and not on their order.

    Args:
        examples: All of the data.
        samples: Indices of the samples of one step.
        sizes: The budget; it is kept except by a sample that is larger on its own.

    Returns:
        Micro-batches of sample indices, each ascending, ordered by their first.
    """
    ordered = sorted(samples)
    leaves = {index: _leaf(examples[index], index, sizes) for index in ordered}
    if sizes.share and len(ordered) > 1:
        bins = _cut_by_prefix(examples, leaves, sizes)
    else:
        bins = _first_fit(list(leaves.values()), 0, sizes)
    kept: list[_Bin] = []
    for found in bins:
        kept.extend(_within_budget(examples, found, leaves, sizes))
    return sorted(sorted(found.samples) for found in kept)


def _leaf(example: Example, index: int, sizes: Sizes) -> _Bin:
    tokens = tree_tokens([example], share=sizes.share, min_shared=sizes.min_shared)
    return _Bin([index], tokens, len(example.sequences))


def _cut_by_prefix(
    examples: Sequence[Example], leaves: dict[int, _Bin], sizes: Sizes
) -> list[_Bin]:
    """From the longest common prefixes to the shortest: fill bins within each group, then join them.

    The first sequence of a sample stands for it; what the others share comes on top.
    """
    ids: dict[int, Ids] = {i: inputs_of(examples[i].sequences[0]) for i in leaves}
    order = sorted(leaves, key=lambda index: sort_key(ids[index]))
    prefix = [0, *(common_prefix(ids[a], ids[b]) for a, b in pairwise(order))]
    # Bins that are still open, with the prefix they share with what stands left of them.
    stack: list[tuple[int, list[_Bin]]] = []
    for index, shared in zip(order, prefix, strict=True):
        open_bins = [leaves[index]]
        _close(stack, shared, sizes)
        stack.append((shared, open_bins))
    _close(stack, -1, sizes)
    return stack[0][1]


def _close(stack: list[tuple[int, list[_Bin]]], shared: int, sizes: Sizes) -> None:
    """Join the groups on the stack that share more than `shared` with their left neighbours."""
    while len(stack) > 1 and stack[-1][0] > shared:
        depth = stack[-1][0]
        group: list[_Bin] = []
        while len(stack) > 1 and stack[-1][0] == depth:
            group[:0] = stack.pop()[1]
        left, bins = stack.pop()
        credit = depth if depth >= sizes.min_shared else 0
        stack.append((left, _first_fit(bins + group, credit, sizes)))


def _first_fit(items: list[_Bin], credit: int, sizes: Sizes) -> list[_Bin]:
    """First-fit-decreasing: the largest first, each into the first bin that holds it.

    Args:
        items: What to place; ties go by sample index.
        credit: Tokens saved by every join, the prefix that all items share.
    """
    bins: list[_Bin] = []
    for item in sorted(items, key=lambda item: (-item.tokens, item.samples)):
        for found in bins:
            tokens = found.tokens + item.tokens - credit
            sequences = found.sequences + item.sequences
            fits = sizes.max_sequences is None or sequences <= sizes.max_sequences
            if fits and tokens <= sizes.budget:
                found.samples, found.tokens = found.samples + item.samples, tokens
                found.sequences = sequences
                break
        else:
            bins.append(_Bin(list(item.samples), item.tokens, item.sequences))
    return bins


def _within_budget(
    examples: Sequence[Example], found: _Bin, leaves: dict[int, _Bin], sizes: Sizes
) -> list[_Bin]:
    """Put out samples until the tree as it is really laid out fits.

    A prefix too short for a branch of its own is not shared, so a bin can come out larger than
    the sum said.
    """
    if not sizes.share or len(found.samples) == 1:
        return [found]
    kept, out = list(found.samples), []
    while len(kept) > 1:
        among = [examples[index] for index in kept]
        tokens = tree_tokens(among, share=True, min_shared=sizes.min_shared)
        if tokens <= sizes.budget:
            break
        out.append(kept.pop())
    if not out:
        return [found]
    rest = _first_fit([leaves[index] for index in out], 0, sizes)
    return [_Bin(kept, 0, 0), *rest]
