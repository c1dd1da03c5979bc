"""What a run says while it lives: one JSON object a line in `events.jsonl`.

Every event has `type`, `time` (seconds since the epoch) and `elapsed_s` (monotonic, since the
process started).  Numbers that are not finite are written as null with `"<name>_text": "nan"`, so
that every line is valid JSON and nothing is hidden.  After a resume the steps behind
`resumed.from_step` are void; `read` drops them.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from time import time as seconds_since_epoch
from typing import Any, Literal

_STARTED = monotonic()

EventType = Literal[
    "started",  # settings in brief, versions, device
    "notice",  # something decided for the user, with its reason: text; of planner.health also code, params, action
    "warning",  # something to look at: text; of planner.health also code, params, action
    "data",  # what the rows became: the contents of data.json
    "planned",  # steps, samples per step, micro-batch tokens, predicted memory
    "plan_checked",  # after two steps: predicted_bytes, measured_bytes, error, measured_by
    "reference",  # progress of scoring the DPO reference: done, total
    "resumed",  # from_step
    "step",  # step, loss, grad_norm, learning_rate, tokens, tokens_per_s, seconds, eta_s, metrics
    "evaluated",  # step, metrics, best
    "sample",  # step, prompt, answer, expected, whole: whether the answer came to its end
    "checkpoint",  # step, path, bytes, seconds
    "finished",  # step, reason, result, seconds
    "failed",  # code, what, why, fix
]


def restart_clock() -> None:
    """Count `elapsed_s` from now: in a process forked from one that has waited for a while."""
    global _STARTED
    _STARTED = monotonic()


@dataclass(frozen=True, slots=True)
class Event:
    """One line of `events.jsonl`."""

    type: EventType
    fields: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=seconds_since_epoch)
    elapsed_s: float = field(default_factory=lambda: monotonic() - _STARTED)

    def to_json(self) -> str:
        """One line of valid JSON without the newline."""
        body = asdict(self)
        merged = {"type": body.pop("type"), **body.pop("fields"), **body}
        clean = _finite(merged)
        text = json.dumps(clean, ensure_ascii=False, allow_nan=False)
        # Half of a surrogate pair, which JSON can carry into a text, has no bytes in UTF-8.
        return json.dumps(clean) if re.search("[\ud800-\udfff]", text) else text


def from_dict(line: Mapping[str, Any]) -> Event:
    """An event back from its line."""
    fields = dict(line)
    kind, moment, elapsed = (fields.pop(name) for name in ("type", "time", "elapsed_s"))
    return Event(kind, fields, moment, elapsed)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        clean: dict[str, Any] = {}
        for key, item in value.items():
            clean[str(key)] = _finite(item)
            if isinstance(item, float) and not math.isfinite(item):
                clean[f"{key}_text"] = str(item)
        return clean
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Events of a run in order, without a half-written last line.

    Steps, evaluations and checkpoints that a later `resumed` event made void are left out, and so
    is an evaluation that a killed run had to do again.
    """
    events: list[dict[str, Any]] = []
    evaluated: set[int] = set()
    for line in path.read_bytes().split(b"\n"):
        try:
            event = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue  # the writer was killed inside this line; the next resume starts a new one
        if event["type"] == "resumed":
            last = event["from_step"]
            events = [
                old
                for old in events
                if old["type"] not in {"step", "evaluated", "checkpoint", "finished", "failed"}
                or old.get("step", math.inf) <= last
            ]
            evaluated = {old["step"] for old in events if old["type"] == "evaluated"}
        elif event["type"] == "evaluated":
            if event["step"] in evaluated:
                done = ("evaluated", event["step"])
                events = [old for old in events if (old["type"], old.get("step")) != done]
            evaluated.add(event["step"])
        events.append(event)
    yield from events
