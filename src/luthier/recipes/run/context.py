"""What every part of a run needs to know: where it is, who it is, and whom to tell."""

from dataclasses import dataclass
from datetime import UTC, datetime

from luthier.config.read import Resolved
from luthier.config.settings import Settings
from luthier.engine.distribution import Ranks
from luthier.engine.interrupt import Interrupt
from luthier.events import Event, Notice
from luthier.planner.plan import Plan
from luthier.recipes.run.choices import Machine
from luthier.runs import EventLog, RunDirectory


@dataclass
class RunContext:
    """One rank of one run.

    Args:
        resolved: The settings; replaced as open values are decided.
        log: None on ranks that write nothing.
        predicted: What the run was planned to take, once data and model are known.
        resident_bytes: Of this process, before the model was loaded.
    """

    resolved: Resolved
    directory: RunDirectory
    ranks: Ranks
    log: EventLog | None
    interrupt: Interrupt
    machine: Machine
    predicted: Plan | None = None
    resident_bytes: int = 0

    @property
    def settings(self) -> Settings:
        return self.resolved.settings

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
