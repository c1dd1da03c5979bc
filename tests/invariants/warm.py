"""A warm process that has torch, transformers and luthier loaded and forks one child a command.

`python warm.py` reads one JSON request a line: the words of a command line, and what shall go wrong
in that child.  It answers with the child's id, and with its exit status when it has ended.  A start
costs some milliseconds instead of seconds, and the child can be killed like any other process.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class Child:
    """A running command.

    Attributes:
        output: What it writes to its standard output and error.
    """

    server: "Server"
    pid: int
    output: Path
    status: int | None = None

    def wait(self) -> int:
        """The exit status; -9 after SIGKILL."""
        if self.status is None:
            self.status = int(self.server.answer())
        return self.status

    def ended(self) -> bool:
        """Whether it has ended, without waiting."""
        if self.status is None and self.server.has_answer():
            self.wait()
        return self.status is not None

    def kill(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if not self.ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def text(self) -> str:
        return self.output.read_text("utf-8", "replace")


class Server:
    """The warm process; one command at a time."""

    def __init__(self, home: Path) -> None:
        self.home, self.count = home, 0
        home.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "LUTHIER_HOME": str(home), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.invariants.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # what a buffer holds back, `has_answer` cannot see
            cwd=CHECKOUT,
            env=environment,
        )
        assert self.answer() == "ready"

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the warm process is gone"
        return json.loads(line)

    def has_answer(self) -> bool:
        """Whether `answer` would not wait."""
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def start(self, *words: str | Path, **faults: Any) -> Child:
        """Begin `luthier WORDS` with the faults of `tests.invariants.faulty`."""
        assert self.process.stdin is not None
        self.count += 1
        output = self.home / f"output-{self.count}.txt"
        body = {"words": list(map(str, words)), "output": str(output), "faults": faults}
        self.process.stdin.write(json.dumps(body).encode() + b"\n")
        return Child(self, int(self.answer()), output)

    def run(self, *words: str | Path, status: int = 0, **faults: Any) -> str:
        """The same until it ends, with the status expected of it; returns what it wrote."""
        child = self.start(*words, **faults)
        found, text = child.wait(), child.text()
        assert found == status, f"status {found} instead of {status}:\n{text}"
        return text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def serve() -> None:
    """Fork a child for each request until the input ends."""
    import torch

    torch.set_num_threads(1)  # before the fork: a pool of threads does not survive it
    import luthier.cli.drawing.render
    import luthier.recipes.run.train

    modules = "llama", "qwen3_moe"
    for name in modules:
        __import__(f"transformers.models.{name}.modeling_{name}")
    import bitsandbytes.optim  # noqa: F401
    import tests.invariants.faulty  # noqa: F401

    assert luthier.cli.drawing.render
    _say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(request)
        _say(pid)
        _, status = os.waitpid(pid, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _child(request: dict[str, Any]) -> None:
    from tests.invariants.faulty import faults

    from luthier.cli.main import main

    status = 70
    try:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((0, null), (1, output), (2, output)):
            os.dup2(new, old)
        with faults(**request["faults"]):
            main(request["words"])
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()
