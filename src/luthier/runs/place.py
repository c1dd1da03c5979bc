"""Where runs and luthier's own files may be."""

import contextlib
import os
import re
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from luthier import locks
from luthier.durable import keep_private, make_folders
from luthier.errors import EnvironmentVariableError, RunBusyError, RunError, SettingsError

RUN_MARK = "run.json"
_HOME_NAMES = frozenset(
    [
        "service",
        "runs",
        "models",
        "cache",
        "leases",
        "token",
        "runs.jsonl",
        "machine.json",
        "planned.jsonl",
    ]
)
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 200, 3500  # below the system's 255 and 4,096: names grow inside


def home() -> Path:
    """The folder of luthier's own files: `LUTHIER_HOME`, or the user's data directory.

    Raises:
        EnvironmentVariableError: `LUTHIER_HOME` is not an absolute path of a usable folder.
    """
    path = _named_home()
    keep_private(path)
    return path


def _named_home() -> Path:
    given = os.environ.get("LUTHIER_HOME", "")
    if not given:
        return _data_directory() / "luthier"
    problem = _problem_of_text(given)
    path = Path(given)
    if not problem and not path.is_absolute():
        problem = "it is not an absolute path"
    if not problem:
        problem = _problem_of_place(path)
    if problem:
        raise EnvironmentVariableError(
            f"LUTHIER_HOME={given[:200]!r} cannot be used: {problem}",
            why="it must be the absolute path of a folder, or of one that can be made",
            fix=f"export LUTHIER_HOME={_data_directory() / 'luthier'}",
        )
    return path


def mend_home() -> str | None:
    """Close a home that other accounts may look into, as older versions made it; what to say of it.

    A folder that holds other things too is left as it is, and what is luthier's in it is closed.
    """
    path = home()
    try:
        entries = {entry.name for entry in path.iterdir()}
        ours = [path] if entries <= _HOME_NAMES else [path / name for name in entries & _HOME_NAMES]
        open_ones = [one for one in ours if _is_open(one)]
        for one in open_ones:
            one.chmod(stat.S_IMODE(one.stat().st_mode) & 0o700)
    except OSError:  # it is not there yet, or of another account
        return None
    if not open_ones:
        return None
    names = ", ".join(str(one) for one in sorted(open_ones))
    return f"{names}: other accounts could look into it, now only yours can"


def _is_open(path: Path) -> bool:
    about = path.lstat()
    mine = about.st_uid == os.geteuid() and not stat.S_ISLNK(about.st_mode)
    return mine and bool(about.st_mode & 0o077)


def _data_directory() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    given = os.environ.get("XDG_DATA_HOME", "")
    # The specification: a relative path there is to be ignored.
    return Path(given) if os.path.isabs(given) else Path.home() / ".local" / "share"


def check_place(given: str | Path, *, datasets: Sequence[Path] = ()) -> Path:
    """The absolute path of an `output_dir`, if a run may be there; whether one is, is not asked.

    Raises:
        SettingsError: It is no usable path, a folder that must not become a run, or inside one
            that is read as data.
    """
    text = str(given)
    if problem := _problem_of_text(text):
        raise refused(text, problem)
    try:
        path = Path(text).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise refused(text, str(error)) from error
    if path == Path(path.anchor):
        raise refused(text, "it is the root of the file system")
    if path == Path.home().resolve():
        raise refused(text, "it is your home directory")
    for dataset in datasets:
        if dataset.is_dir() and (path / "x").is_relative_to(dataset.resolve()):
            raise refused(text, f"it is inside {dataset}, all of which is read as data")
    for parent in path.parents:
        if (parent / RUN_MARK).exists():
            raise refused(text, f"it is inside another run, {parent}")
    if not path.exists() and (problem := _problem_of_place(path)):
        raise refused(text, problem)
    return path


def refused(text: str, problem: str) -> SettingsError:
    """The error for an `output_dir` that cannot hold a run."""
    shown = text if len(text) <= 120 else f"{text[:100]}... ({len(text):,} characters)"
    return SettingsError(
        f"output_dir={shown!r} cannot hold a run: {problem}",
        why="a run is a new folder of its own, in a place that may be written to",
        fix="--output_dir runs/my-run, or leave it out for runs/<date>-<model>-<dataset>",
    )


def _problem_of_text(text: str) -> str:
    if not text.strip():
        return "it is empty"
    if bad := re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
        return f"it contains the character {bad[0]!r}"
    longest = max(len(part.encode()) for part in text.split("/"))
    if longest > _MAX_NAME_BYTES:
        return f"a name in it has {longest:,} bytes; {_MAX_NAME_BYTES} are allowed"
    if len(text.encode()) > _MAX_PATH_BYTES:
        return f"it has {len(text.encode()):,} bytes; {_MAX_PATH_BYTES:,} are allowed"
    return ""


def _problem_of_place(path: Path) -> str:
    """Why a folder cannot be made, or written to, at `path`; empty if it can."""
    try:
        there = path
        while not there.exists() and there != there.parent:
            if there.is_symlink():
                return f"{there} is a link to nothing"
            there = there.parent
        if not there.is_dir():
            return f"{there} is a file"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"{there} may not be written to"


def slug(part: str, *, longest: int = 40) -> str:
    """A part of a run's name: the last component without a data file's ending, plain characters."""
    name = re.split(r"[/\\]", part.rstrip("/\\"))[-1]
    name = re.sub(r"\.(jsonl?|csv|txt|parquet)(\.gz)?$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:longest].rstrip("-._")


CHAT = "the chat of luthier serve"
"""Who gives a device back when asked: nobody loses work by it."""

YIELD_S = 30.0
"""Longest wait for an answer that is being written, and for memory to be given back."""


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    subject: str,
    what: str = "",
    fix: Callable[[locks.Owner | None], str] | None = None,
) -> Iterator[None]:
    """Hold the lock file at `path`, which guards `subject`.

    Args:
        what: What is done with it, for whoever finds it held.
        fix: What to do about an owner; waiting, or ending it, where nothing is given.

    Raises:
        RunBusyError: Another live process holds it; it is named.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.hold(path, what=what))
        except locks.TakenError as taken:
            raise RunBusyError(
                f"{subject} is in use by {_named(taken.owner)}",
                why="one process at a time may work there",
                fix=(fix or _wait_or_end)(taken.owner),
            ) from taken
        except OSError as error:
            raise RunError(
                f"{path} cannot be locked: {error.strerror}",
                why="without the lock two processes could write the same files",
                fix="put the run on a disk that may be written to: --output_dir",
            ) from error
        yield


def lease_file(device: str) -> Path:
    """The lock file of a device (`cuda:0`, `cpu`); `locks.read_owner` says who has it."""
    return home() / "leases" / f"{slug(device.replace(':', '-'))}.lock"


def _named(owner: locks.Owner | None) -> str:
    if owner is None:
        return "another process"
    return f"{owner.what}, process {owner.pid}" if owner.what else f"process {owner.pid}"


def _wait_or_end(owner: locks.Owner | None) -> str:
    return "wait until it ends" + ("" if owner is None else f", or stop it: kill {owner.pid}")


def _wait_or_queue(owner: locks.Owner | None) -> str:
    if owner is not None and owner.what == CHAT:
        return "wait until its answer is written"
    return "wait until it ends, or let luthier serve do so: luthier jobs submit run.yaml"


def make_way(device: str) -> bool:
    """Ask an idle chat for its device; whether nobody has it any more.

    A chat that is answering writes its answer to the end first.
    """
    owner = locks.read_owner(lease_file(device))
    if owner is None or not owner.alive or owner.what != CHAT:
        return owner is None or not owner.alive
    with contextlib.suppress(ProcessLookupError):  # it ended in this moment
        os.kill(owner.pid, signal.SIGUSR1)
    deadline = time.monotonic() + YIELD_S
    while owner.alive and time.monotonic() < deadline:
        time.sleep(0.05)
    return not owner.alive


@contextlib.contextmanager
def device_lease(*devices: str, what: str = "") -> Iterator[None]:
    """Have devices (`cuda:0`, `cpu`) to oneself among luthier's processes of this user: all or none.

    A chat of the service that holds one gives it back first; see `make_way`.

    Args:
        what: What is done with them, for whoever finds them held.

    Raises:
        RunBusyError: Another live process has one of them.
    """
    with contextlib.ExitStack() as stack:
        for device in sorted(devices):
            path = lease_file(device)
            make_folders(path.parent)
            if what != CHAT:
                make_way(device)
            subject = f"device {device}"
            stack.enter_context(locked(path, subject=subject, what=what, fix=_wait_or_queue))
        yield
