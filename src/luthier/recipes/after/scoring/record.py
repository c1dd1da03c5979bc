"""What the scorer found for each sequence, kept while the objective takes its means.

N: sequences of all samples.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from luthier.objectives.terms import Terms
from luthier.recipes.run.objective import (
    FeedbackObjective,
    PairObjective,
    TokenObjective,
    training_step,
)
from luthier.recipes.run.steps import MicroBatch


class Recorder:
    """An objective that also fills a table of sequences.

    A micro-batch that is cut anew after memory ran out overwrites what it found before.

    Attributes:
        logp_N: Weighted log-probability of the targets, nats, float64.
        weight_N: Their weight.
        right_N: Weight of those that were the likeliest token.
    """

    def __init__(
        self, objective: TokenObjective | PairObjective | FeedbackObjective, num_sequences: int
    ) -> None:
        self._objective = objective
        self._table_N3 = np.zeros((num_sequences, 3))

    def __call__(self, batch: MicroBatch) -> Terms:
        packed = batch.packed
        scores = self._objective.trainee.score(packed, step=training_step(batch))
        logp_S, top1_S = scores.logp_S.double().cpu(), scores.top1_S.double().cpu()
        weight_S = torch.from_numpy(packed.target_weight).double()
        owner_S = torch.from_numpy(packed.target_sequence).long()
        columns_S3 = torch.stack([weight_S * logp_S, weight_S, weight_S * top1_S], dim=1)
        found_N3 = torch.zeros(packed.num_sequences, 3, dtype=torch.float64)
        self._table_N3[packed.sequence_samples] = found_N3.index_add_(0, owner_S, columns_S3)
        return self._objective.terms(batch, scores)

    @property
    def logp_N(self) -> NDArray[np.float64]:  # noqa: N802
        return self._table_N3[:, 0]

    @property
    def weight_N(self) -> NDArray[np.float64]:  # noqa: N802
        return self._table_N3[:, 1]

    @property
    def right_N(self) -> NDArray[np.float64]:  # noqa: N802
        return self._table_N3[:, 2]
