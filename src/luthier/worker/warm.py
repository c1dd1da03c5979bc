"""A process that has the libraries loaded and forks one child for each attempt at a job.

`python -m luthier.worker.warm` reads one JSON request a line: `{"job", "attempt", "run",
"environment", "log"}`.  It answers `{"ready"}` once, `{"started": pid, "job", "attempt"}` for each
and `{"ended": pid, "status"}` when one has ended.  A start costs milliseconds instead of the
seconds that importing torch takes.  It ends when its input does; the children go on.

No device is touched here: what the first use of CUDA sets up does not survive a fork.
"""

import importlib
import json
import os
import selectors
import signal
import sys
import traceback
from pathlib import Path

import luthier.recipes.run.job
from luthier import events
from luthier.bounded import decode_ours
from luthier.process_messages import WarmMessage, WarmRequest

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Of the models most used, so that a child does not have to import them."""


def serve() -> None:
    """Fork a child for each request until the input ends."""
    parent = os.getppid()
    for name in ARCHITECTURES:
        importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    importlib.import_module("bitsandbytes.optim")
    woken, wake = os.pipe()
    for fd in (woken, wake):
        os.set_blocking(fd, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    _say({"ready": os.getpid()})
    waiting = b""
    while True:
        ready = {key.fd for key, _ in selector.select()}
        if woken in ready:
            os.read(woken, 4096)
            _reap()
        if 0 in ready:
            block = os.read(0, 65536)
            if not block:
                return
            *lines, waiting = (waiting + block).split(b"\n")
            for line in lines:
                if os.getppid() != parent:  # nobody is left who would know of the child
                    return
                _fork(decode_ours(line))


def _fork(request: WarmRequest) -> None:
    pid = os.fork()
    if pid == 0:
        _child(request)
    _say({"started": pid, "job": request["job"], "attempt": request["attempt"]})


def _child(request: WarmRequest) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((null, 0), (log, 1), (log, 2)):
            os.dup2(old, new)
        os.closerange(3, 1024)
        os.environ.clear()
        os.environ.update(request["environment"])
        events.restart_clock()
        status = luthier.recipes.run.job.run_job(Path(request["run"]), request["attempt"])
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - the last line of this process: shown in full
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _say(message: WarmMessage) -> None:
    try:
        os.write(1, json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        os._exit(0)  # the server is gone; the children go on


if __name__ == "__main__":
    serve()
