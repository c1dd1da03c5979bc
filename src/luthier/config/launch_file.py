"""`launch.json` of a run: what the processes that train it are told."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from luthier.bounded import decode
from luthier.config.read import Resolved
from luthier.durable import write_atomic

MOST_SAMPLES = 8
NAME = "launch.json"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What whoever starts a run asks for beside its settings.

    Things of a moment: nothing that is learned follows from them, and no resume compares them.

    Args:
        ignore_plan: Train although the plan says that it does not fit.
        samples: Held-out prompts that are answered at every evaluation, 0 to 8.
    """

    ignore_plan: bool = False
    samples: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.samples <= MOST_SAMPLES:
            raise ValueError(f"samples: {self.samples} is not between 0 and {MOST_SAMPLES}")


NOTHING = Wishes()


@dataclass(frozen=True, slots=True)
class Launch:
    """Settings with what was given, the wishes, and the number of the attempt (0 without jobs)."""

    resolved: Resolved
    wishes: Wishes = NOTHING
    attempt: int = 0

    def write(self, run: Path) -> None:
        """Replace the file of a run directory."""
        body = {
            **self.resolved.as_dict(),
            "config": self.resolved.config_text,
            "wishes": dataclasses.asdict(self.wishes),
            "attempt": self.attempt,
        }
        write_atomic(run / NAME, json.dumps(body, ensure_ascii=False))

    @classmethod
    def read(cls, run: Path) -> Self:
        """The file of a run directory."""
        saved = decode((run / NAME).read_bytes())
        resolved = Resolved.from_dict(saved).with_text(saved["config"])
        return cls(resolved, Wishes(**saved.get("wishes", {})), saved.get("attempt", 0))
