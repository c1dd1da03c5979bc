"""The events of a run, read from its file, and what of them a resume makes void."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from luthier.bounded import decode_ours
from luthier.events.kinds import KINDS
from luthier.events.line import Event
from luthier.json_values import Json, JsonObject, whole_of

_BY_TYPE = {kind.type: kind for kind in KINDS}
VOIDED = frozenset({"step", "evaluated", "sample", "checkpoint", "finished", "failed"})


def stands(event: Event | Mapping[str, object], from_step: int) -> bool:
    """Whether an event before a `resumed` still holds, given the step that was gone on from.

    An end holds only where it is of that step or before it; an error has no step and never holds.
    """
    line = vars(event) | {"type": event.type} if isinstance(event, Event) else event
    step = line.get("step")
    last = step if isinstance(step, int | float) else math.inf
    return line.get("type") not in VOIDED or last <= from_step


def parse(line: JsonObject) -> Event | None:
    """A line as its event; None for one of no known kind, or damaged."""
    kind = _BY_TYPE.get(str(line.get("type")))
    return None if kind is None else kind.from_dict(line)


def decode(line: bytes) -> JsonObject | None:
    """A line of the file as plain values; None for one that a kill has torn, or that is no event."""
    try:
        value = decode_ours(line)
    except ValueError:  # the next resume starts a new line
        return None
    return value if isinstance(value, dict) and _is_event(value) else None


def _is_event(value: JsonObject) -> bool:
    """Whether what readers count on is there; anything else is as good as torn."""
    kind = value.get("type")
    if not isinstance(kind, str):
        return False
    needed = {"resumed": "from_step", "evaluated": "step"}.get(kind)
    numbers = [value.get("step", 0), value.get(needed, None) if needed else 0]
    return all(type(number) is int for number in numbers)


def read(path: Path) -> Iterator[JsonObject]:
    """Lines of a run in order as plain values, without a half-written one.

    What a later `resumed` event made void is left out, and so is an evaluation that a killed run
    had to do again.
    """
    events: list[JsonObject] = []
    evaluated: set[Json] = set()
    for line in path.read_bytes().split(b"\n"):
        if (event := decode(line)) is None:
            continue
        if event["type"] == "resumed":
            last = whole_of(event["from_step"]) or 0
            events = [old for old in events if stands(old, last)]
            evaluated = {old["step"] for old in events if old["type"] == "evaluated"}
        elif event["type"] == "evaluated":
            if event["step"] in evaluated:
                done = ("evaluated", event["step"])
                events = [old for old in events if (old["type"], old.get("step")) != done]
            evaluated.add(event["step"])
        events.append(event)
    yield from events


def read_events(path: Path) -> Iterator[Event]:
    """The same as events."""
    return (event for line in read(path) if (event := parse(line)) is not None)
