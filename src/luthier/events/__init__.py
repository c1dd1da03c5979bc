"""What a run says while it lives: one JSON object a line in `events.jsonl`.

One frozen class for each kind of event (docs/reference/events.md is made from them), the way to a
line and back, and what of a file a resume makes void.
"""

from luthier.events.kinds import (
    KINDS,
    CheckpointSaved,
    DataRead,
    Evaluated,
    Failed,
    Figures,
    Finished,
    Notice,
    PlanChecked,
    Planned,
    ReferenceScored,
    Resumed,
    Said,
    SampleAnswered,
    Started,
    Step,
    Warned,
)
from luthier.events.line import Event, restart_clock
from luthier.events.reading import decode, parse, read, read_events, stands

__all__ = [
    "KINDS", "CheckpointSaved", "DataRead", "Evaluated", "Event", "Failed", "Figures", "Finished",
    "Notice", "PlanChecked", "Planned", "ReferenceScored", "Resumed", "Said", "SampleAnswered", "Started",
    "Step", "Warned", "decode", "parse", "read", "read_events", "restart_clock", "stands",
]  # fmt: skip
