"""Every process that luthier starts, it starts here; no other module may (a house rule).

What all of them have in common: the current folder is not a place to import from (`-P`, and
`PYTHONSAFEPATH` for what they start in turn), since it may be somebody's repository; they see
named variables of the environment and no others; they are a session of their own.

Two kinds: what serves its parent (a helper, a chat, a conversion, a dry run, the ranks of a run)
ends when the parent ends, however that happens; an attempt at a job (`outlives`) goes on without
the server and is found again by the next one.
"""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from luthier.durable import make_folders
from luthier.errors import LuthierError
from luthier.locks import Owner
from luthier.reach import REACH, limited_to
from luthier.runs import home

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
Child = subprocess.Popen[bytes]
TooLateError = subprocess.TimeoutExpired

MARK = "LUTHIER_PARENT"
"""In the environment of what must end with its parent: `pid:start:boot` of that one."""

_NAMES = frozenset([
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LUTHIER_HOME", "HF_HOME",
    "HF_ENDPOINT", "HF_HUB_OFFLINE", "XDG_DATA_HOME", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE", REACH,
])  # fmt: skip
_TRAINING_NAMES = _NAMES | frozenset([
    "USER", "LOGNAME", "SHELL", "LANGUAGE", "TZ", "CONDA_PREFIX", "LD_PRELOAD", "http_proxy",
    "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "XDG_CACHE_HOME",
])  # fmt: skip
_TRAINING_PREFIXES = (
    "LC_", "LUTHIER_", "HF_", "MODELSCOPE_", "CUDA_", "NVIDIA_", "NCCL_", "TORCH_", "PYTORCH_", "OMP_",
    "GOMP_", "MKL_", "OPENBLAS_", "BNB_", "TOKENIZERS_", "WANDB_", "MLFLOW_",
)  # fmt: skip
_NEVER = frozenset({"LUTHIER_TOKEN", MARK})
_SEARCHED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
_SAFE = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a child may take; None where its work has no bound that is known.

    Args:
        memory_bytes: Of address space.
        cpu_s: Seconds of processor time, all threads together; then SIGXCPU ends it.
    """

    memory_bytes: int | None = None
    cpu_s: int | None = None


@dataclass(frozen=True, slots=True)
class ChildOutput:
    """How a child ended: its exit status (minus the signal, if one ended it), and what it wrote."""

    status: int
    out: str
    err: str


UNBOUNDED = Bounds()


def serving_environment(reach: Collection[Path] = ()) -> dict[str, str]:
    """What a child may see that reads what strangers wrote: no token, no key, no proxy.

    Args:
        reach: Folders that it may open; none is no limit beyond that of this process.
    """
    kept = {name: value for name, value in os.environ.items() if name in _NAMES}
    return _cleaned({**_PATIENT, **kept, **(limited_to(reach) if reach else {})})


def training_environment(reach: Collection[Path] = ()) -> dict[str, str]:
    """What an attempt at a job may see: also what its libraries and trackers are set up with."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _TRAINING_NAMES or name.startswith(_TRAINING_PREFIXES)
    }
    return _cleaned({**_PATIENT, **kept, **(limited_to(reach) if reach else {})})


def whole_environment() -> dict[str, str]:
    """For the ranks of a run at the command line, which see what the run with one device sees."""
    return _cleaned(dict(os.environ))


def _cleaned(environment: dict[str, str]) -> dict[str, str]:
    """Without secrets of the server, and with search paths that do not lead to the current folder."""
    kept = {name: value for name, value in environment.items() if name not in _NEVER}
    for name in _SEARCHED:
        if name in kept:
            kept[name] = search_path(kept[name])
            if not kept[name]:
                del kept[name]
    return {**kept, **_SAFE}


def search_path(text: str) -> str:
    """A list of folders without the current one; others that were relative to it made absolute.

    An empty entry means the current folder: `PYTHONPATH=$PYTHONPATH:/opt/tools` has one where
    nothing was set before.
    """
    here = Path.cwd()
    entries = [entry for entry in text.split(os.pathsep) if entry]
    found = [entry if os.path.isabs(entry) else os.path.normpath(here / entry) for entry in entries]
    relative = [not os.path.isabs(entry) for entry in entries]
    kept = [
        path for path, was in zip(found, relative, strict=True) if not (was and path == str(here))
    ]
    return os.pathsep.join(kept)


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    bounds: Bounds = UNBOUNDED,
    outlives: bool = False,
    ends_by: int = signal.SIGKILL,
    folder: Path | None = None,
    stdin: int = DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Child:
    """Start `python -m module arguments` as a child; returns at once.

    Args:
        environment: All that it sees, `serving_environment()` if None.
        bounds: Hold from its first import on.
        outlives: It goes on when this process ends; otherwise it gets `ends_by`, at once and from
            the system itself.
        folder: Its current folder; an empty one of ours if None.
        stdin: As for `subprocess.Popen`, as `stdout` and `stderr`; pipes carry bytes.
    """
    wanted = {name: value for name, value in asdict(bounds).items() if value is not None}
    seen = dict(serving_environment() if environment is None else environment) | _SAFE
    if not outlives:
        wanted |= {"parent": os.getpid(), "signal": int(ends_by)}
        if ends_by == signal.SIGKILL:
            seen[MARK] = _name_of(Owner.of(os.getpid()))
    return _from_a_thread_that_stays(
        lambda: subprocess.Popen(
            [sys.executable, "-P", "-m", "luthier.child", json.dumps(wanted), module, *arguments],
            env=seen,
            cwd=folder or _empty_folder(),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    )


def run(
    module: str,
    *arguments: str,
    text: str = "",
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    bounds: Bounds = UNBOUNDED,
) -> ChildOutput:
    """Start a child, hand it `text` on standard input, and wait for its end.

    Raises:
        TooLateError: It took more than `timeout_s`; it has been ended, with all that it started.
    """
    child = start(
        module,
        *arguments,
        environment=environment,
        bounds=bounds,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    return finish(child, text, timeout_s=timeout_s)


def finish(child: Child, text: str, *, timeout_s: float) -> ChildOutput:
    """Hand a child with three pipes its input and wait for its end, as `run` does."""
    try:
        out, err = child.communicate(text.encode(), timeout=timeout_s)
    finally:
        if child.returncode is None:
            end(child)
    return ChildOutput(
        child.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
    )


def kill(child: Child) -> None:
    """End a child and its whole session now; safe while another thread waits for it."""
    with contextlib.suppress(ProcessLookupError):  # it went in this moment
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)


def end(child: Child) -> None:
    """End a child and its whole session now; returns when it is gone and its pipes are closed."""
    kill(child)
    child.wait()
    close_pipes(child)


def close_pipes(child: Child) -> None:
    """Say nothing more, and listen no more."""
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was never read needs no flushing
                pipe.close()


def ask_program(name: str, *arguments: str, timeout_s: float) -> str | None:
    """What another program says on standard output; None where it is absent, late or fails.

    It is looked for in the absolute folders of `PATH` only.
    """
    program = find_program(name)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=serving_environment(),
            cwd="/",
        )
    except (OSError, TooLateError):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def find_program(name: str) -> str | None:
    """Where a program is, never in the current folder."""
    return shutil.which(name, path=search_path(os.environ.get("PATH", os.defpath)))


def strays() -> list[psutil.Process]:
    """Children of this user that should have ended with their parent and did not."""
    found = []
    for process in psutil.process_iter():
        parent = _parent_of(process.pid)
        if parent is not None and not parent.alive and process.pid != os.getpid():
            found.append(process)
    return found


def _parent_of(pid: int) -> Owner | None:
    """The process that a child belongs to, as its environment says."""
    try:
        lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, of another user, or a system that does not tell
        return None
    text = next((line for line in lines if line.startswith(MARK.encode() + b"=")), b"").decode()
    number, _, rest = text.partition("=")[2].partition(":")
    moment, _, boot = rest.partition(":")
    return Owner(int(number), moment, boot, "") if number.isdigit() else None


def _name_of(owner: Owner | None) -> str:
    assert owner is not None, "this process lives"
    return f"{owner.pid}:{owner.start}:{owner.boot}"


def _empty_folder() -> Path:
    """A current folder with nothing in it, so that a relative name means nothing there."""
    folder = home() / "cache" / "empty"
    try:
        make_folders(folder)
    except (OSError, LuthierError):
        return Path("/")
    return folder


def _from_a_thread_that_stays(start: Callable[[], Child]) -> Child:
    """Linux tells a child of the end of the *thread* that started it: one that lasts has to."""
    if threading.current_thread() is threading.main_thread():
        return start()
    return _starter().submit(start).result()


@functools.cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="starts children")


os.register_at_fork(after_in_child=_starter.cache_clear)
