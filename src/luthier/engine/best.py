"""Which evaluation was the best, and when to stop waiting for a better one."""

from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(slots=True)
class Best:
    """The best held-out figure so far.

    Args:
        metric: Name of the figure; `loss` is better when lower, every other when higher.
        patience: Evaluations without a better one after which training stops; None: never.
    """

    metric: str
    patience: int | None = None
    value: float | None = None
    step: int | None = None
    waited: int = 0

    def update(self, step: int, value: float) -> bool:
        """Take in one evaluation; returns whether it is the best so far (a tie is not)."""
        better = self.value is None or self._is_better(value, self.value)
        if better:
            self.value, self.step, self.waited = value, step, 0
        else:
            self.waited += 1
        return better

    def loses_to(self, value: float) -> bool:
        """Whether a figure is better than the best one; False before the first."""
        return self.value is not None and self._is_better(value, self.value)

    def _is_better(self, value: float, other: float) -> bool:
        return value < other if self.metric == "loss" else value > other

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any], *, metric: str, patience: int | None) -> Self:
        """The history of a checkpoint; a changed metric starts anew, a changed patience counts on."""
        if saved.get("metric") != metric:
            return cls(metric, patience)
        return cls(**{**saved, "patience": patience})
