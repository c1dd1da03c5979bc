"""Several devices: torch's launcher starts one worker process for each.

The parent only watches: it repeats the events that the first rank writes and passes a stop on, to
the first rank alone, which tells the others.  The workers are a session of their own: a Ctrl-C in
the terminal would reach each of them, and through the launcher a second time.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from luthier import children
from luthier.errors import RankError
from luthier.events import Event, Failed, Finished, decode, parse
from luthier.locks import read_owner
from luthier.runs.tail import Tail

POLL_S = 0.2
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the last: the terminal is gone


def launch(
    run: Path, leases: Sequence[str], devices: int, on_event: Callable[[Event], None]
) -> Finished | Failed:
    """Train with `devices` processes in the run directory; returns the last event.

    Args:
        leases: Names of the devices that are theirs: `cuda:0` and so on, or `cpu`.

    Raises:
        RankError: The processes ended without saying `finished` or `failed`.
    """
    workers = [f"--nproc-per-node={devices}", "-m", "luthier.worker", str(run)]
    threads = str(max(1, (os.cpu_count() or 1) // devices))
    environment = {"OMP_NUM_THREADS": threads, **children.whole_environment()}
    if cuda := [name.removeprefix("cuda:") for name in leases if name != "cpu"]:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(cuda)
    events = run / "events.jsonl"
    tail = Tail(events, events.stat().st_size if events.exists() else 0)
    with (run / "stderr.log").open("ab") as errors:
        process = children.start(
            "torch.distributed.run",
            "--standalone",
            *workers,
            environment=environment,
            ends_by=signal.SIGTERM,  # what the ranks have done is saved
            folder=Path.cwd(),  # the settings may name files relative to it
            stderr=errors.fileno(),
        )
        handlers = _pass_on(process, run / "run.lock")
        last: Event | None = None
        try:
            running = True
            while running:
                running = process.poll() is None
                for event in (parse(decode(line) or {}) for line in tail.lines()):
                    if event is not None:
                        last = event
                        on_event(event)
                if running:
                    time.sleep(POLL_S)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            if process.poll() is None:
                process.terminate()
                process.wait(30)
    if not isinstance(last, Finished | Failed):
        said = (run / "stderr.log").read_text("utf-8", "replace").strip().splitlines()[-3:]
        raise RankError(
            f"the {devices} training processes ended with status {process.returncode}",
            why="the last lines they wrote: " + " | ".join(said),
            fix=f"the whole text is in {run / 'stderr.log'}; then --resume true",
        )
    return last


def _pass_on(process: children.Child, lock: Path) -> dict[int, Any]:
    """Send stop signals on to the first rank; to the launcher while there is no rank yet."""

    def handler(number: int, _frame: object) -> None:
        owner = read_owner(lock)
        if owner is not None and owner.alive:
            os.kill(owner.pid, signal.SIGTERM if number == signal.SIGHUP else number)
        else:
            process.terminate()

    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in _STOPS}
