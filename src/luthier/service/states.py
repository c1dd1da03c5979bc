"""The states of a job, and which may follow which; an ended job never changes."""

from typing import Literal

State = Literal[
    "created",  # accepted, not yet in the queue
    "queued",  # waits for a device
    "starting",  # a process has been asked for; it has not said `started` yet
    "running",
    "saving",  # the last step is done or a stop was asked for; what is known is being written
    "pausing",  # a pause was asked for; the checkpoint is being written
    "paused",  # holds no device; `resume` puts it back into the queue
    "finished",
    "failed",
    "cancelled",
]
Wish = Literal["cancel", "pause", "stop_early"]

TERMINAL: frozenset[State] = frozenset({"finished", "failed", "cancelled"})
ACTIVE: frozenset[State] = frozenset({"starting", "running", "saving", "pausing"})
"""A process may be at work, and the devices are held."""
LIVE: frozenset[State] = ACTIVE | {"created", "queued", "paused"}

_ENDS = {"finished", "failed", "cancelled"}
ALLOWED: dict[State, frozenset[str]] = {
    "created": frozenset({"queued", "failed", "cancelled"}),
    "queued": frozenset({"starting", "paused", "failed", "cancelled"}),
    "starting": frozenset({"running", "saving", "pausing", "paused", "queued", *_ENDS}),
    "running": frozenset({"saving", "pausing", "paused", "queued", *_ENDS}),
    "saving": frozenset({"running", "pausing", "paused", "queued", *_ENDS}),
    "pausing": frozenset({"saving", "paused", "queued", *_ENDS}),
    "paused": frozenset({"queued", "cancelled"}),
    "finished": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
