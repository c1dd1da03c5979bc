"""The numbers of an event, under the names that they have in every tracker."""

import math
from collections.abc import Mapping
from pathlib import Path

from luthier.bounded import decode_ours
from luthier.events import CheckpointSaved, Evaluated, Event, Step

_OF_STEP = ("loss", "grad_norm", "learning_rate", "tokens", "tokens_per_s", "seconds")
_OF_CHECKPOINT = ("bytes", "seconds")
_TAIL_BYTES = 8192


def figures(event: Event) -> dict[str, float]:
    """`train/...` of a step, `eval/...` of an evaluation, `checkpoint/...`; nothing of others.

    A figure that is not finite is left out: the run itself ends over it and says so.
    """
    if isinstance(event, Step):
        named = {name: getattr(event, name) for name in _OF_STEP} | dict(event.metrics or {})
        return _finite("train", named)
    if isinstance(event, Evaluated):
        return _finite("eval", event.metrics)
    if isinstance(event, CheckpointSaved):
        return _finite("checkpoint", {name: getattr(event, name) for name in _OF_CHECKPOINT})
    return {}


def latest_sample(path: Path) -> dict[str, float]:
    """The last whole line of `monitor.jsonl` as `system/...`, without its clocks; empty if none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        sample = decode_ours(lines[-1])
    except (OSError, IndexError, ValueError):
        return {}  # not begun, or torn: there is another one in two seconds
    named = {name: value for name, value in sample.items() if name not in ("time", "elapsed_s")}
    return _finite("system", named)


def _finite(room: str, values: Mapping[str, object]) -> dict[str, float]:
    return {
        f"{room}/{name}": float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
