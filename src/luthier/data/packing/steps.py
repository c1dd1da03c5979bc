"""Which samples each optimiser step sees, and in which micro-batches.

Everything is a function of (seed, step): there is no sampler state to save.  Steps are 1-based
and never cross an epoch, so the last step of an epoch may be short.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from luthier.data.packing.cut import Sizes, cut, tree_tokens
from luthier.data.packing.trie import MIN_SHARED
from luthier.data.types import Example
from luthier.errors import NoRowsError

_WORD = (1 << 64) - 1


def permutation(count: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of `count` samples in an epoch (0-based).

    Samples are sorted by 64-bit words of Philox 4x64-10 with the key (seed, epoch).  numpy keeps
    the words of a bit generator the same in every version, unlike `Generator.permutation`.

    Source: Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405.
    """
    key = np.array([seed & _WORD, epoch], dtype=np.uint64)
    words = np.random.Philox(key=key).random_raw(count)
    return np.argsort(words, kind="stable")


class StepPlanner:
    """The samples and micro-batches of every step of a run.

    Args:
        examples: The data.
        seed: Of the order.
        samples_per_step: Over all devices, > 0.
        micro_batch_tokens: Rows of the tree of one micro-batch on one device, > 0.
        share: Whether sequences of a micro-batch share prefixes.
        min_shared: Tokens that a shared branch must save.
        max_sequences: Sequences of a micro-batch; 1 for models that cannot be packed.
        num_train_epochs: > 0; a fraction ends within an epoch.
        max_steps: Ends the run at that step, whatever the epochs; may go beyond them.

    Raises:
        NoRowsError: There are no examples.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        seed: int,
        samples_per_step: int,
        micro_batch_tokens: int,
        share: bool,
        min_shared: int = MIN_SHARED,
        max_sequences: int | None = None,
        num_train_epochs: float = 1.0,
        max_steps: int | None = None,
    ) -> None:
        if not examples:
            raise NoRowsError(
                "there are 0 examples to train on",
                why="a step needs at least one sample",
                fix="luthier data check FILE lists what became of each row",
            )
        self._examples = examples
        self._seed = seed
        self._samples_per_step = samples_per_step
        self._budget = micro_batch_tokens
        self._share = share
        self._min_shared = min_shared
        self._max_sequences = max_sequences
        self._num_train_epochs = num_train_epochs
        self._max_steps = max_steps
        self._order = lru_cache(maxsize=2)(self._permutation)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self._examples) / self._samples_per_step)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        if self._max_steps is not None:
            return self._max_steps
        return max(1, math.ceil(self._num_train_epochs * self.steps_per_epoch))

    def epoch(self, step: int) -> float:
        """Epochs done when `step` is done, as the progress of a run."""
        whole, within = divmod(step - 1, self.steps_per_epoch)
        seen = min((within + 1) * self._samples_per_step, len(self._examples))
        return whole + seen / len(self._examples)

    def samples(self, step: int) -> list[int]:
        """Indices of the samples of a step (1-based), in the order of its epoch."""
        if step < 1:
            raise IndexError(f"step {step}: steps are counted from 1")
        epoch, within = divmod(step - 1, self.steps_per_epoch)
        start = within * self._samples_per_step
        order = self._order(epoch)
        return cast(list[int], order[start : start + self._samples_per_step].tolist())

    def micro_batches(
        self, step: int, *, budget: int | None = None, rank: int = 0, ranks: int = 1
    ) -> list[list[int]]:
        """Sample indices of each micro-batch of one rank.

        The ranks together have the samples of the step, each once, balanced by tokens; a rank
        gets none where a step has fewer samples than ranks.

        Args:
            step: 1-based.
            budget: Rows of a micro-batch, if memory asked for less than `micro_batch_tokens`.
            rank: Of this process, 0 to ranks - 1.
            ranks: Processes that train together.
        """
        samples = self.samples(step)
        sizes = Sizes(budget or self._budget, self._share, self._min_shared, self._max_sequences)
        if ranks == 1:
            return cut(self._examples, samples, sizes)
        even = math.ceil(self._tokens(samples) / ranks)
        pieces = cut(self._examples, samples, sizes._replace(budget=min(sizes.budget, even)))
        return cut(self._examples, self._balanced(pieces, ranks)[rank], sizes)

    def _balanced(self, pieces: list[list[int]], ranks: int) -> list[list[int]]:
        """Give each piece, the largest first, to the rank that has least so far."""
        loads, shares = [0] * ranks, [list[int]() for _ in range(ranks)]
        for tokens, piece in sorted((-self._tokens(piece), piece) for piece in pieces):
            least = loads.index(min(loads))
            loads[least] -= tokens
            shares[least].extend(piece)
        return shares

    def _tokens(self, samples: Sequence[int]) -> int:
        among = [self._examples[index] for index in samples]
        return tree_tokens(among, share=self._share, min_shared=self._min_shared)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return permutation(len(self._examples), seed=self._seed, epoch=epoch)
