"""What every part of a run needs to know: where it is, who it is, whom to tell, what was decided."""

from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from luthier.config.launch_file import NOTHING, Wishes
from luthier.config.settings import Settings
from luthier.engine.distribution import Ranks
from luthier.engine.interrupt import Interrupt
from luthier.events import Event, Notice
from luthier.planner.device import Device
from luthier.planner.plan import Plan
from luthier.recipes.before.deciding import Decided
from luthier.runs import EventLog, RunDirectory


@dataclass(frozen=True, slots=True)
class Post:
    """One rank of one run at its place, before anything is read.

    Args:
        log: None on ranks that write nothing.
        device: That this rank computes on.
        facts: The same as the planner knows it.
    """

    directory: RunDirectory
    ranks: Ranks
    log: EventLog | None
    interrupt: Interrupt
    device: torch.device
    facts: Device
    wishes: Wishes = NOTHING

    @property
    def now(self) -> datetime:
        """When the run was created: the clock that templates read."""
        return datetime.fromtimestamp(self.directory.info["created"], UTC)

    def emit(self, event: Event) -> None:
        """Write an event, on the rank that writes."""
        if self.log is not None:
            self.log.emit(event)

    def notice(self, text: str) -> None:
        """Say something that was decided or found."""
        self.emit(Notice(text=text))

    def stop_requested(self) -> bool:
        """Whether a signal asked for the end."""
        return self.interrupt.requested is not None

    def end_requested(self) -> bool:
        """Whether somebody asked for the end of training with the best weights so far.

        A file asks, so that it is asked of the run and not of the process that is at it just now.
        """
        return self.ranks.first and self.directory.end_file.exists()

    def begin(self, decided: Decided, *, resident_bytes: int) -> "RunContext":
        """The same rank, once it is decided what the run does.

        Args:
            resident_bytes: Of this process, before the model is loaded.
        """
        return RunContext(
            self.directory,
            self.ranks,
            self.log,
            self.interrupt,
            self.device,
            self.facts,
            self.wishes,
            decided=decided,
            resident_bytes=resident_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext(Post):
    """A rank of a run of which everything is decided; nothing in it changes.

    Args:
        resident_bytes: Of this process, before the model was loaded.
    """

    decided: Decided
    resident_bytes: int

    @property
    def settings(self) -> Settings:
        return self.decided.settings

    @property
    def plan(self) -> Plan:
        return self.decided.plan
