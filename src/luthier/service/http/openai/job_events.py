"""Events of a job as OpenAI lists them, newest first, however many there are.

They come from two places: the history of the job's states, and `events.jsonl` of its run, which is
read backwards from where the page before ended.  An id says where its event stands, so that the
next page needs nothing to be remembered.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from luthier.bounded import decode_ours
from luthier.events import decode
from luthier.events.sentences import describe
from luthier.json_values import JsonObject, number_of, object_of
from luthier.runs.tail import MAX_LINE_BYTES, backwards
from luthier.service.http import schemas
from luthier.service.http.door.envelope import ApiError
from luthier.service.records import Job, StateChange

_ID = re.compile(r"ftevent-([0-9A-Za-z]{1,80})-([le])([0-9]{1,15})")
HIDDEN = frozenset({"type", "time", "elapsed_s", "metrics"})
TOLD = frozenset({"started", "data", "planned", "plan_checked", "resumed"})
"""Events of a run whose message is the sentence that the command line prints."""

LEVELS: Mapping[str, schemas.Level] = {"warning": "warn", "failed": "error"}
SAID = {
    "created": "Created fine-tuning job",
    "queued": "Files validated, moving job to queued state",
    "starting": "Fine-tuning job started",
    "running": "Training has begun",
    "saving": "Saving what is known so far",
    "pausing": "Pausing: a checkpoint is being written",
    "paused": "Job paused",
    "finished": "The job has successfully completed",
    "failed": "The job failed",
    "cancelled": "The job was cancelled",
}


def events_page(
    job: Job, log: Sequence[StateChange], *, after: str | None, limit: int
) -> tuple[list[schemas.JobEvent], bool]:
    """Events of a job, newest first, and whether there are more.

    Args:
        log: Changes of its state, oldest first.
        after: Id of the last event of the page before.

    Raises:
        ApiError: 400: `after` is no event of this job.
    """
    path = job.run_path / "events.jsonl"
    before_line, before_number, before_time = None, None, float("inf")
    if after is not None:
        match = _ID.fullmatch(after)
        if match is None or match[1] != _tail(job):
            raise _no_cursor(after)
        if match[2] == "l":
            before_number = int(match[3])
            before_time = next((one.time for one in log if one.number == before_number), 0.0)
        else:
            before_line = int(match[3])
            before_time = _time_of(path, before_line, after)
    merged = _merge(
        _states(job, log, before_number, before_time),
        _lines(job, path, before_line, before_time),
    )
    found = [event for _, event in zip(range(limit + 1), merged, strict=False)]
    return found[:limit], len(found) > limit


def _merge(
    states: Iterator[tuple[float, schemas.JobEvent]],
    lines: Iterator[tuple[float, schemas.JobEvent]],
) -> Iterator[schemas.JobEvent]:
    """Both, newest first; of the same instant the run's event counts as newer."""
    state, line = next(states, None), next(lines, None)
    while state is not None or line is not None:
        if line is not None and (state is None or line[0] >= state[0]):
            yield line[1]
            line = next(lines, None)
        elif state is not None:
            yield state[1]
            state = next(states, None)


def _states(
    job: Job, log: Sequence[StateChange], before: int | None, moment: float
) -> Iterator[tuple[float, schemas.JobEvent]]:
    for one in reversed(log):
        number = one.number
        if (number >= before) if before is not None else (one.time > moment):
            continue
        same = one.before == one.after
        reason = str(one.reason or "")
        message = reason if same else SAID.get(one.after, str(one.after))
        if reason and not same and one.after in ("failed", "cancelled", "queued"):
            message = f"{message}: {reason}"
        level: schemas.Level = "error" if one.after == "failed" else "info"
        yield (
            one.time,
            wire_event(
                f"ftevent-{_tail(job)}-l{number}",
                one.time,
                level,
                message,
                {"state": one.after},
            ),
        )


def _lines(
    job: Job, path: Path, before: int | None, moment: float
) -> Iterator[tuple[float, schemas.JobEvent]]:
    for offset, line in backwards(path, before):
        event = decode(line)
        stamp = event.get("time") if event is not None else None
        if event is None or not isinstance(stamp, int | float) or stamp > moment:
            continue
        yield stamp, run_event(event, f"ftevent-{_tail(job)}-e{offset}")


def run_event(event: JsonObject, identifier: str) -> schemas.JobEvent:
    """An event of a run as OpenAI's object."""
    kind = str(event.get("type"))
    data = {name: value for name, value in event.items() if name not in HIDDEN}
    metrics, moment = object_of(event.get("metrics")), number_of(event.get("time")) or 0.0
    level = LEVELS.get(kind, "info")
    if kind == "step":
        data |= {**metrics, "total_steps": event.get("total"), "train_loss": event.get("loss")}
        if "accuracy" in metrics:
            data["train_mean_token_accuracy"] = metrics["accuracy"]
        total = f"/{event.get('total')}" if event.get("total") else ""
        loss = event.get("loss")
        shown = f"{loss:.4f}" if isinstance(loss, int | float) else str(loss)
        message = f"Step {event.get('step')}{total}: training loss={shown}"
        return wire_event(identifier, moment, level, message, data, metrics=True)
    if kind == "evaluated":
        for ours, theirs in (("loss", "valid_loss"), ("accuracy", "valid_mean_token_accuracy")):
            if ours in metrics:
                data |= {theirs: metrics[ours], f"full_{theirs}": metrics[ours]}
        message = f"Evaluated at step {event.get('step')}: loss={metrics.get('loss')}"
        return wire_event(identifier, moment, level, message, data, metrics=True)
    if kind == "checkpoint":
        message = f"Checkpoint created at step {event.get('step')}"
    else:
        said = describe(event).partition("\n")[0] if kind in TOLD else ""
        text = event.get("text") or event.get("what") or event.get("reason") or ""
        message = said or (f"{kind}: {text}" if text else kind)
    return wire_event(identifier, moment, level, message[:2000], data)


def wire_event(
    identifier: str,
    moment: float,
    level: schemas.Level,
    message: str,
    data: Mapping[str, object],
    *,
    metrics: bool = False,
) -> schemas.JobEvent:
    """One `fine_tuning.job.event`."""
    return {
        "id": identifier,
        "object": "fine_tuning.job.event",
        "created_at": int(moment),
        "level": level,
        "message": message,
        "type": "metrics" if metrics else "message",
        "data": dict(data),
    }


def _time_of(path: Path, offset: int, after: str) -> float:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            value = decode_ours(stream.readline(MAX_LINE_BYTES))
        return float(value["time"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_cursor(after) from error


def _tail(job: Job) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", job.id.removeprefix("ftjob-"))


def _no_cursor(after: str) -> ApiError:
    return ApiError(
        400, f"after={after[:80]!r} is no event of this job", code="invalid_value", param="after"
    )
