"""How a run ended, as its last event and its caller are told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Args:
        reason: `completed`, `early_stopping` or `interrupted`.
        exit_code: 0, or 130 / 143 after a stop by signal.
        before, last, best: Held-out means; empty without held-out data.
    """

    path: Path
    reason: str
    step: int
    result: Path | None = None
    before: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_step: int | None = None
    exit_code: int = 0
    seconds: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the `finished` event."""
        return {
            **self.__dict__,
            "path": str(self.path),
            "result": str(self.result) if self.result else None,
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "RunResult":
        """Back from `as_dict`."""
        result = Path(saved["result"]) if saved["result"] else None
        return cls(**{**saved, "path": Path(saved["path"]), "result": result})
