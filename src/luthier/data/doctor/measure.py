"""Tokens of rows: how many of what, what a limit would cut, what padding wastes and sharing saves.

Dimension of every figure: tokens, unless the name says otherwise.
"""

import copy
from array import array
from collections import Counter
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.data.doctor.row import RowSizes
from luthier.data.packing.cut import tree_tokens
from luthier.data.packing.steps import permutation
from luthier.data.rendering.render import UNLIMITED, Renderer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Conversation, Example, Feedback, Preference, Sample

LIMITS = (512, 1024, 2048, 4096)
PERCENTILES = (5, 25, 50, 75, 95, 99)
SAMPLED_ROWS = 2048
SAMPLED_TOKENS = 4_000_000
_PADDED_BATCH = 8


def uncut(renderer: Renderer) -> Renderer:
    """The same renderer without a limit, with counts of its own."""
    whole = copy.copy(renderer)
    whole.seq_length = UNLIMITED
    whole.counts, whole.controls, whole.notices = Counter(), Counter(), []
    whole.left_out = Counter()
    return whole


def sizes_of(sample: Sample, example: Example, tokenizer: Tokenizer) -> RowSizes:
    """Tokens of a rendered row by part; of a pair, of the longer side."""
    lengths = tuple(len(sequence.ids) for sequence in example.sequences)
    learned = [int(np.count_nonzero(sequence.weights)) for sequence in example.sequences]
    if isinstance(sample, Preference):
        place = lengths.index(max(lengths))
        total, answer = lengths[place], learned[place]
    else:
        total, answer = sum(lengths), sum(learned)
    texts = [m.content for m in _messages(sample) if m.role == "system"]
    system = sum(len(tokenizer.encode_piece(text, continued=False)) for text in texts)
    system = min(system, total - answer)
    return RowSizes(system, total - answer - system, answer, lengths)


def _messages(sample: Sample) -> Items[Any]:
    if isinstance(sample, Feedback):
        sample = sample.conversation
    if isinstance(sample, Conversation):
        return sample.messages
    return sample.prompt if isinstance(sample, Preference) else ()


class Measure:
    """Adds up the sizes of rows in 20 bytes a row, and keeps a sample of rows for sharing.

    Args:
        hidden_size: Of the model, for the share of attention in the cost of a step; None counts
            tokens alone.
        seed: Of the sample.
    """

    def __init__(self, *, seq_length: int, hidden_size: int | None = None, seed: int = 0) -> None:
        self._limits = tuple(sorted({*LIMITS, seq_length}))
        self._hidden = hidden_size
        self._parts = {name: array("i") for name in ("system", "prompt", "answer", "total")}
        self._longest = array("i")
        self._sides = {"chosen": array("i"), "rejected": array("i")}
        self._cuts = {limit: [0, 0, 0.0] for limit in self._limits}  # rows, tokens, cost left
        self._tokens, self._cost = 0, 0.0
        self._random = np.random.Generator(np.random.Philox(key=seed))
        self._sample: list[Example] = []
        self._sampled_tokens = 0

    def add(self, sizes: RowSizes, example: Example, *, pair: bool) -> None:
        """Count one row that is used."""
        total = sizes.system + sizes.prompt + sizes.answer
        for name, value in zip(self._parts, (*sizes[:3], total), strict=True):
            self._parts[name].append(value)
        longest = sizes.longest
        self._longest.append(longest)
        if pair:
            for side, length in zip(self._sides.values(), sizes.lengths, strict=True):
                side.append(length)
        self._tokens += sum(sizes.lengths)
        cost = sum(map(self._step_cost, sizes.lengths))
        self._cost += cost
        for limit, cut in self._cuts.items():
            if longest <= limit:
                cut[2] += cost
                continue
            cut[0] += 1
            cut[1] += sum(max(0, length - limit) for length in sizes.lengths)
            cut[2] += sum(self._step_cost(min(length, limit)) for length in sizes.lengths)
        self._keep(example)

    def _step_cost(self, length: int) -> float:
        """Work of a sequence in units of a token's matrix products.

        With d the hidden size, a layer's products take about 24 d^2 operations a token and its
        attention 2 d n: a share of n / (12 d).
        """
        return length * (1 + length / (12 * self._hidden)) if self._hidden else float(length)

    def _keep(self, example: Example) -> None:
        """Reservoir sampling: every row has the same chance to be in the sample."""
        size = sum(len(sequence.ids) for sequence in example.sequences)
        seen = len(self._longest)
        if len(self._sample) < SAMPLED_ROWS and self._sampled_tokens + size <= SAMPLED_TOKENS:
            self._sample.append(example)
            self._sampled_tokens += size
        elif self._sample and (place := int(self._random.integers(seen))) < len(self._sample):
            left = self._sampled_tokens - sum(len(s.ids) for s in self._sample[place].sequences)
            if left + size <= SAMPLED_TOKENS:
                self._sample[place], self._sampled_tokens = example, left + size

    def __len__(self) -> int:
        return len(self._longest)

    def lengths(self) -> NDArray[np.int32]:
        """Of every row that is used, its longest sequence."""
        return np.frombuffer(self._longest, np.int32) if len(self) else np.zeros(0, np.int32)

    def report(self, *, samples_per_step: int) -> dict[str, Any]:
        """The figures of the report; empty where no row was rendered."""
        if not len(self):
            return {}
        parts = {name: spread(np.frombuffer(a, np.int32)) for name, a in self._parts.items()}
        sides = {name: spread(np.frombuffer(a, np.int32)) for name, a in self._sides.items() if a}
        sharing, rows = self._sharing(samples_per_step)
        return {
            "tokens": {"all": self._tokens, **parts, **sides},
            "cuts": {str(limit): self._cut(limit) for limit in self._limits},
            "padding_ratio": round(padding(self.lengths(), _PADDED_BATCH), 4),
            "padding_batch": _PADDED_BATCH,
            "sharing_ratio": round(sharing, 4),
            "sharing_step": samples_per_step,
            "sharing_rows": rows,
            "histogram": histogram(self.lengths()),
        }

    def _cut(self, limit: int) -> dict[str, Any]:
        rows, tokens, cost = self._cuts[limit]
        return {
            "rows": rows,
            "row_share": round(rows / len(self), 4),
            "tokens": tokens,
            "share": round(tokens / self._tokens, 4) if self._tokens else 0.0,
            "step_cost": round(cost / self._cost, 4) if self._cost else 1.0,
        }

    def _sharing(self, step: int) -> tuple[float, int]:
        """Tokens that storing prefixes once saves, as a share, in steps drawn from the sample."""
        order = self._random.permutation(len(self._sample)).tolist()
        flat = tree = 0
        for start in range(0, len(order), step):
            batch = [self._sample[place] for place in order[start : start + step]]
            flat += tree_tokens(batch, share=False)
            tree += tree_tokens(batch, share=True)
        return (1 - tree / flat if flat else 0.0), len(order)


def spread(values: NDArray[np.int32]) -> dict[str, float]:
    """Sum, mean, percentiles and the largest."""
    if not len(values):
        return {}
    found = np.percentile(values, PERCENTILES)
    named = {f"p{name}": float(value) for name, value in zip(PERCENTILES, found, strict=True)}
    total = int(values.sum(dtype=np.int64))
    return {"sum": total, "mean": total / len(values), **named, "max": int(values.max())}


def padding(lengths: NDArray[np.int32], batch: int) -> float:
    """Share of the tokens that would be padding, in shuffled batches padded to their longest."""
    order = permutation(len(lengths), seed=0, epoch=0)
    shuffled = lengths[order].astype(np.int64)
    starts = np.arange(0, len(shuffled), batch)
    longest = np.maximum.reduceat(shuffled, starts)
    counts = np.minimum(batch, len(shuffled) - starts)
    padded = int((longest * counts).sum())
    return 1 - int(shuffled.sum()) / padded if padded else 0.0


def histogram(lengths: NDArray[np.int32]) -> list[dict[str, int]]:
    """Rows by length in powers of two: `up_to` is the longest of a bin."""
    bits = np.ceil(np.log2(np.maximum(lengths, 2))).astype(np.int64)
    low, high = int(bits.min()), int(bits.max())
    counts = np.bincount(bits, minlength=high + 1)
    return [{"up_to": 1 << bit, "rows": int(counts[bit])} for bit in range(low, high + 1)]
