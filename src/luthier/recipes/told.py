"""A run that tells of itself where Python is used by hand: sentences, and one line of progress."""

import sys
import time

from luthier.events import Event
from luthier.events.sentences import describe, step_figures, wrapped

QUIET = frozenset({"notice", "checkpoint", "planned", "plan_checked"})
SECONDS_BETWEEN = 1.0


def by_hand() -> bool:
    """Whether somebody sits before a prompt or a notebook, and no program."""
    return hasattr(sys, "ps1") or "IPython" in sys.modules


class Teller:
    """Prints the course of a run; a step takes the place of the one before."""

    def __init__(self) -> None:
        self._last = 0.0
        self._open_line = False

    def __call__(self, event: Event) -> None:
        """Show it: a step over the one before, anything else on lines of its own."""
        fields = event.as_dict()
        if event.type == "step":
            last = fields.get("step") == fields.get("total")
            if last or time.monotonic() - self._last >= SECONDS_BETWEEN:
                self._last = time.monotonic()
                of = f"/{fields['total']:,}" if fields.get("total") else ""
                sys.stdout.write(f"\rstep {fields['step']:,}{of}  {step_figures(fields)}   ")
                sys.stdout.flush()
                self._open_line = True
        elif event.type not in QUIET and (said := describe(fields)):
            sys.stdout.write(("\n" if self._open_line else "") + wrapped(said) + "\n")
            sys.stdout.flush()
            self._open_line = False
