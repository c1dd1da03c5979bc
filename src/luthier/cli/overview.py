"""What a run directory says, for `luthier runs show` and `luthier runs follow`."""

import time
from collections.abc import Iterator

from luthier import events
from luthier.advisor.health import judge
from luthier.bounded import decode
from luthier.cli.drawing.render import cell
from luthier.config.read import load_saved
from luthier.json_values import JsonObject
from luthier.runs import RunDirectory
from luthier.runs.tail import Tail

PAUSE_S = 0.5
FINAL = {"finished", "failed"}


def overview(run: RunDirectory) -> dict[str, object]:
    """Status, settings that somebody gave, data, last evaluation and paths, as plain values."""
    status = run.status()
    about: dict[str, object] = {
        "run": run.name,
        "path": str(run.path),
        "state": str(status),
        "loss": status.loss,
    }
    if run.settings_file.exists():
        resolved = load_saved(run.settings_file)
        values = resolved.settings.model_dump(mode="json")
        about["settings"] = {
            name: f"{cell(values[name])}  ({source})"
            for name, source in resolved.provenance.items()
            if source != "default"
        }
    if run.data_file.exists():
        about["data"] = decode(run.data_file.read_text("utf-8"))
    seen = list(events.read(run.events_file)) if run.events_file.exists() else []
    for kind in ("evaluated", "checkpoint", "finished", "failed"):
        if last := [event for event in seen if event["type"] == kind][-1:]:
            hidden = {"type", "time", "elapsed_s"}
            about[kind] = {name: value for name, value in last[0].items() if name not in hidden}
    answers = {  # the last one to each prompt
        _line(one.prompt)[-80:]: f"{_line(one.answer)}  (step {one.step})"
        for line in seen
        if isinstance(one := events.parse(line), events.SampleAnswered)
    }
    if answers:
        about["samples"] = answers
    if said := judge(event for one in seen if (event := events.parse(one)) is not None):
        about["judgements"] = {one.code: f"{one.text()} {one.action}" for one in said}
    if run.result.exists():
        about["result"] = str(run.result)
    return about


def _line(text: str) -> str:
    return " ".join(text.split())


def watch(run: RunDirectory) -> Iterator[JsonObject]:
    """Events of a run as they are written; ends when the run has, or nobody works in it."""
    tail = Tail(run.events_file)
    while True:
        alive = run.status().state == "running"  # before reading, so that no last event is missed
        for line in tail.lines():
            if (event := events.decode(line)) is not None:
                yield event
        if not alive:
            return
        time.sleep(PAUSE_S)
