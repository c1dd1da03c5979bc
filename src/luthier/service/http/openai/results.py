"""The figures of a finished job as an uploaded file, as OpenAI gives them: CSV, one line a step."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from luthier import events
from luthier.service.http.parts import Parts
from luthier.service.records import Job

COLUMNS = (
    "step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy",
    "learning_rate", "grad_norm", "tokens_per_s",
)  # fmt: skip


def result_files(parts: Parts, job: Job) -> list[str]:
    """Ids of the files that hold the figures of a job; made when they are first asked for."""
    if job.state != "finished" or not job.managed:
        return []
    name = f"{job.id}-step_metrics.csv"
    with parts.results_lock:
        rows = parts.files.store.read(
            "SELECT id FROM files WHERE purpose = 'fine-tune-results' AND filename = ?", (name,)
        )
        if rows:
            return [row["id"] for row in rows]
        path = job.run_path / "events.jsonl"
        if not path.exists():
            return []
        return [parts.files.add(_csv(events.read(path)), name, "fine-tune-results").id]


def _csv(lines: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    evaluated: dict[int, dict[str, Any]] = {}
    steps = []
    for event in lines:
        metrics = event.get("metrics") or {}
        if event["type"] == "evaluated":
            evaluated[event["step"]] = {
                "valid_loss": metrics.get("loss"),
                "valid_mean_token_accuracy": metrics.get("accuracy"),
            }
        elif event["type"] == "step":
            own = {"train_loss": event.get("loss"), "train_accuracy": metrics.get("accuracy")}
            figures = {name: event.get(name) for name in COLUMNS if name in event}
            steps.append({**figures, **own})
    for step in steps:
        writer.writerow({**step, **evaluated.get(int(step.get("step") or 0), {})})
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
