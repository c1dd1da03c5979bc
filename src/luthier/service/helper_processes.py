"""Tasks in processes of their own: bounded in number, memory and time.

The names of the tasks and what they take are in `luthier.worker.tasks`; data files, tokenizers and
templates that strangers made are read there and nowhere in the server.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from luthier import errors
from luthier.errors import HelperError
from luthier.units import GIB, format_bytes

MEMORY_BYTES = 4 * GIB
TIMEOUT_S = 60.0
PATIENCE_S = 30.0
"""Longest wait for one of the places."""

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LUTHIER_HOME",
             "HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "XDG_DATA_HOME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")  # fmt: skip
"""Variables a worker gets; tokens and keys are not among them."""


def environment() -> dict[str, str]:
    """What a helper or chat process may see of the server's environment."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**kept, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "PYTHONUNBUFFERED": "1"}


class Helpers:
    """A few places for helpers.

    Args:
        places: How many run at once; more wait.
        memory_bytes: Address space of each.
    """

    def __init__(self, *, places: int = 2, memory_bytes: int = MEMORY_BYTES) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._memory_bytes = memory_bytes

    def call(
        self, task: str, request: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S
    ) -> dict[str, Any]:
        """The answer of a task; blocks.

        Raises:
            LuthierError: Of the class that the task raised.
            HelperError: No place became free, it took too long or too much memory, or it broke.
        """
        if not self._places.acquire(timeout=PATIENCE_S):
            raise HelperError(
                f"{task}: all helpers are busy",
                why=f"a request waits {PATIENCE_S:.0f} s for one",
                fix="try again in a moment",
            )
        try:
            return self._run(task, request, timeout_s)
        finally:
            self._places.release()

    def _run(self, task: str, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        body = {"task": task, "request": request, "memory_bytes": self._memory_bytes}
        process = subprocess.Popen(
            [sys.executable, "-m", "luthier.worker.helper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            start_new_session=True,
        )
        try:
            out, err = process.communicate(json.dumps(body) + "\n", timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise HelperError(
                f"{task} was stopped after {timeout_s:.0f} s",
                why="a helper is bounded, so that one file cannot hold up everybody",
                fix="the same on the command line has no such limit, see luthier data --help",
            ) from None
        return self._answer(task, out, err)

    def _answer(self, task: str, out: str, err: str) -> dict[str, Any]:
        lines = out.splitlines()
        broken = {"fault": (err.strip() or "no answer")[-300:]}
        answer: dict[str, Any] = json.loads(lines[-1]) if lines else broken
        if "error" in answer:
            raise errors.from_dict(answer["error"])
        if "fault" in answer:
            memory = answer["fault"] == "memory"
            raise HelperError(
                f"{task} needed more than {format_bytes(self._memory_bytes)} of memory"
                if memory
                else f"{task} broke: {answer['fault']}",
                why="a helper is bounded in memory" if memory else "this is a fault of luthier",
                fix="the same on the command line has no such limit, see luthier data --help"
                if memory
                else "the log of the server has the details",
            )
        result: dict[str, Any] = answer["result"]
        return result
