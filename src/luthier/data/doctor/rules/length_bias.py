"""Chosen answers that are longer, or shorter, than rejected ones nearly always."""

import math
from array import array

import numpy as np

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import DataFacts, Rule
from luthier.data.types import Preference

_SHARE, _SIGMAS, _FEWEST = 0.6, 3.0, 20


class LengthBias(Rule):
    """One side is longer in more than 60 % of the pairs, by more than chance explains (3 sigma)."""

    code = "length-bias"
    severity = "warning"
    sees = "pairs"
    title = "length bias of chosen over rejected"
    why = "DPO sums log-probabilities over tokens, so length is the first thing it learns to prefer"
    example = {"prompt": "Why?", "chosen": "A long answer with many reasons ...", "rejected": "So."}
    fix = "balance the pairs by length, or watch the length of answers while training"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        self._chosen, self._rejected = array("I"), array("I")

    def row(self, row: CheckedRow) -> None:
        """Characters of both answers."""
        if isinstance(row.sample, Preference):
            self._chosen.append(sum(len(turn.content) for turn in row.sample.chosen))
            self._rejected.append(sum(len(turn.content) for turn in row.sample.rejected))

    def finish(self, rows: int) -> Finding | None:
        """The share of pairs, and the medians."""
        pairs = len(self._chosen)
        if pairs < _FEWEST:
            return None
        chosen = np.frombuffer(self._chosen, np.uint32).astype(np.int64)
        rejected = np.frombuffer(self._rejected, np.uint32).astype(np.int64)
        longer, shorter = int((chosen > rejected).sum()), int((chosen < rejected).sum())
        side, most = ("longer", longer) if longer >= shorter else ("shorter", shorter)
        decided = longer + shorter
        sigmas = (most - decided / 2) / (math.sqrt(decided) / 2) if decided else 0.0
        if decided == 0 or most / pairs <= _SHARE or sigmas < _SIGMAS:
            return None
        medians = float(np.median(chosen)), float(np.median(rejected))
        detail = (
            f"chosen is {side} in {most / pairs:.0%} of {pairs:,} pairs; median characters: "
            f"chosen {medians[0]:,.0f}, rejected {medians[1]:,.0f}"
        )
        params = {"share": most / pairs, "side": side, "chosen": medians[0], "rejected": medians[1]}
        return self.finding(detail, count=most, params=params)
