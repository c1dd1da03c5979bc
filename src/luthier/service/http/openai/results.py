"""The figures of a finished job as an uploaded file, as OpenAI gives them: CSV, one line a step."""

import csv
import io
import math
from collections.abc import Iterator

from luthier.events import Evaluated, Event, Step, read_events
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
        return [parts.files.add(_csv(read_events(path)), name, "fine-tune-results").id]


def _csv(events: Iterator[Event]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    evaluated: dict[int, dict[str, float | None]] = {}
    steps = []
    for event in events:
        if isinstance(event, Evaluated):
            evaluated[event.step] = {
                "valid_loss": _finite(event.metrics.get("loss")),
                "valid_mean_token_accuracy": _finite(event.metrics.get("accuracy")),
            }
        elif isinstance(event, Step):
            steps.append(event)
    for step in steps:
        figures = {
            "train_loss": step.loss,
            "train_accuracy": (step.metrics or {}).get("accuracy"),
            "learning_rate": step.learning_rate,
            "grad_norm": step.grad_norm,
            "tokens_per_s": step.tokens_per_s,
        }
        finite = {name: _finite(value) for name, value in figures.items()}
        writer.writerow({"step": step.step, **finite, **evaluated.get(step.step, {})})
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()


def _finite(value: float | None) -> float | None:
    """A number that a table can hold; an empty cell for others."""
    return value if value is not None and math.isfinite(value) else None
