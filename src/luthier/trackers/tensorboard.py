"""TensorBoard event files, by the writer of the `tensorboard` package; no TensorFlow, no torch."""

import json
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TensorBoard:
    """Event files in a folder; each process of the run adds one.

    After a resume a session start with the step behind `from_step` makes readers drop what came
    later, as TensorBoard's own writers do (`purge_step`).
    """

    def __init__(self, folder: Path, reported: int) -> None:
        # Here, not above: it is an extra.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events, self._summaries = event_pb2, summary_pb2
        known = folder.is_dir() and any(folder.glob("events.out.tfevents.*"))
        self.has = reported if known else -1
        self._writer = EventFileWriter(str(folder))

    def settings(self, values: Mapping[str, Any]) -> None:
        """As a text of step 0."""
        from tensorboard.plugins.text.summary_v2 import text_pb

        body = json.dumps(dict(values), indent=2, ensure_ascii=False)
        indented = "\n".join(f"    {line}" for line in body.splitlines())  # code, in its Markdown
        summary = self._summaries.Summary.FromString(
            text_pb("settings", indented).SerializeToString()
        )
        self._writer.add_event(self._events.Event(wall_time=clock.time(), step=0, summary=summary))

    def rewind(self, step: int) -> None:
        """Later steps of earlier files are dropped by readers."""
        self.has = step
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._writer.add_event(
            self._events.Event(wall_time=clock.time(), step=step + 1, session_log=start)
        )

    def figures(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """One event with all of them."""
        parts = [
            self._summaries.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
        self._writer.add_event(
            self._events.Event(
                wall_time=time, step=step, summary=self._summaries.Summary(value=parts)
            )
        )

    def flush(self) -> None:
        """Into the file."""
        self._writer.flush()

    def end(self, state: str) -> None:
        """Close the file."""
        self._writer.close()
