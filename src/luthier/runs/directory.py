"""A run is a directory; its files are the only thing that a run leaves and others read."""

import contextlib
import difflib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from luthier.bounded import decode, decode_ours
from luthier.durable import append_line, clean_stale, make_folders, write_atomic
from luthier.errors import (
    DiskFullError,
    RunBusyError,
    RunError,
    RunExistsError,
    RunNotFoundError,
    SettingsError,
)
from luthier.runs.place import RUN_MARK, check_place, home, locked, refused, slug
from luthier.runs.status import Status, read_status

FORMAT = 1
_LAST_MOMENT = 1e11  # the year 5138
DEFAULT_PARENT = Path("runs")
WRITTEN = (
    "monitor.jsonl", "config.yaml", "settings.json", "plan.json", "data.json", "ledger.jsonl",
    "launch.json", "stderr.log", "end", "events.jsonl", RUN_MARK,
)  # fmt: skip
"""Files of a run that ended before its first step; the mark goes last."""


@dataclass(frozen=True)
class RunDirectory:
    """Where everything of one run is.  Make one with `create` or `open`."""

    path: Path

    @classmethod
    def create(
        cls,
        output_dir: str | Path | None,
        *,
        name_parts: Sequence[str] = (),
        resume: bool = False,
        datasets: Sequence[Path] = (),
    ) -> "RunDirectory":
        """A new run, or with `resume` the one that is there; a missing one is begun.

        Args:
            output_dir: The directory itself; None for `runs/<date>-<name parts>`, made unique.
            name_parts: Model and dataset, as given: paths and hub ids are shortened.
            resume: Continue an existing run.
            datasets: What will be read; a run inside a folder that is data is refused.

        Raises:
            SettingsError: No run can be there, or `resume` without `output_dir`.
            RunExistsError: A file, a folder with something else, or a run and not `resume`.
        """
        if output_dir is None:
            if resume:
                raise _resume_what()
            return cls._create_new(name_parts, datasets)
        path = check_place(output_dir, datasets=datasets)
        if (path / RUN_MARK).exists():
            run = cls(path)
            return run if not resume and run._begin_again() else run._continue(resume)
        try:
            _check_empty(path, resume)
            return cls(path)._begin()
        except RunExistsError:
            if not (path / RUN_MARK).exists():
                raise
            # Another process began it just now; the lock says who works in it.
            return cls(path)._continue(resume)

    @classmethod
    def check_free(cls, output_dir: str | Path, *, datasets: Sequence[Path] = ()) -> None:
        """Whether `create` could begin a new run there; nothing is made.

        Raises:
            SettingsError: And RunExistsError, as `create`.
        """
        path = check_place(output_dir, datasets=datasets)
        if not (path / RUN_MARK).exists():
            _check_empty(path, resume=False)
        elif not cls(path).never_trained:
            raise cls(path)._exists()

    @classmethod
    def _create_new(cls, name_parts: Sequence[str], datasets: Sequence[Path]) -> "RunDirectory":
        parts = [time.strftime("%Y-%m-%d"), *filter(None, map(slug, name_parts))]
        parent = check_place(DEFAULT_PARENT / "x", datasets=datasets).parent
        make_folders(parent)
        while True:
            path = _free_name(parent / "-".join(parts), first="", never_trained=True)
            # Another process may have taken it just now.
            with contextlib.suppress(FileExistsError, RunBusyError):
                if (path / RUN_MARK).exists():
                    if cls(path)._begin_again():
                        return cls(path)
                    continue
                path.mkdir()
                return cls(path)._begin()

    @classmethod
    def open(cls, path_or_name: str | Path) -> "RunDirectory":
        """An existing run, by path, by name under `runs/`, or by name among all registered.

        Raises:
            RunNotFoundError: There is none; similar names are given.
            RunError: It was made by a newer luthier, or its mark is damaged.
        """
        text = str(path_or_name)
        registered = _registered()
        candidates = [Path(text).expanduser(), DEFAULT_PARENT / text]
        candidates += [path for path in reversed(registered) if path.name == text]
        for path in candidates:
            with contextlib.suppress(OSError, ValueError):  # a name that can be no path is no run
                if (path / RUN_MARK).is_file():
                    found = cls(path.resolve())
                    found.info  # noqa: B018 - refuses a run of a newer version
                    return found
        names = [path.name for path in registered]
        close = difflib.get_close_matches(Path(text).name, names, n=3, cutoff=0.5) or names[-3:]
        raise RunNotFoundError(
            f"{text[:200]!r} is not a run",
            why=f"a run is a folder with {RUN_MARK} in it, given by path or by its name",
            fix="luthier runs list" + (f"; nearest: {', '.join(close)}" if close else ""),
        )

    def _begin(self) -> "RunDirectory":
        """Mark the folder as a run; of several processes at once, one gets it."""
        try:
            make_folders(self.path)
        except DiskFullError:
            raise
        except RunError as error:
            raise refused(str(self.path), error.what) from error
        body = {"format": FORMAT, "created": time.time()}
        try:
            write_atomic(self.path / RUN_MARK, json.dumps(body) + "\n", exclusive=True)
        except RunExistsError:
            raise self._exists() from None
        make_folders(self.checkpoints)
        self._register()
        return self

    @property
    def never_trained(self) -> bool:
        """Whether this run ended before its first step: there is nothing in it to lose."""
        try:
            saved = self.result.exists() or any(self.checkpoints.iterdir())
        except FileNotFoundError:
            saved = False
        status = self.status()
        return (
            not saved
            and status.step == 0
            and status.state in ("failed", "cancelled")
            and not status.lost
        )

    def _begin_again(self) -> bool:
        """Begin anew in the place of a run that never trained; False if it did."""
        if not self.never_trained:
            return False
        with self.lock():
            if not self.never_trained:  # another process has begun it meanwhile
                return False
            for name in ("start", "checkpoints", "tensorboard", "wandb", "mlruns"):
                shutil.rmtree(self.path / name, ignore_errors=True)
            for name in WRITTEN:
                (self.path / name).unlink(missing_ok=True)
        self._begin()
        return True

    def _continue(self, resume: bool) -> "RunDirectory":
        if not resume:
            raise self._exists()
        for folder in (self.checkpoints, self.result):
            if folder.is_symlink():
                raise RunError(
                    f"{folder} is a link to {folder.readlink()}",
                    why="a run writes and removes checkpoints inside its own folder only",
                    fix=f"put the folder back: rm '{folder}'; for another disk: --output_dir",
                )
        make_folders(self.checkpoints)
        self._register()
        return self

    def _register(self) -> None:
        created = self.info["created"]
        if self.path not in _registered():
            make_folders(home())
            line = json.dumps({"path": str(self.path), "created": created})
            append_line(home() / "runs.jsonl", line)

    def _exists(self) -> RunExistsError:
        return RunExistsError(
            f"{self.path} already holds a run: {self.status()}",
            why="an existing run is never overwritten",
            fix=f"--resume true continues it; or --output_dir {_free_name(self.path)}",
        )

    @cached_property
    def info(self) -> dict[str, Any]:
        """Format version and moment of creation (`created`, seconds since the epoch)."""
        mark = self.path / RUN_MARK
        try:
            body = dict(decode(mark.read_bytes()))
            version, created = int(body["format"]), float(body["created"])
            if not 0 <= created < _LAST_MOMENT:
                raise ValueError(f"created is {created:g}, no moment in seconds since 1970")
        except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
            raise RunError(
                f"{mark} cannot be read: {error!r}",
                why="it marks a run and says which version of luthier made it",
                fix=f"start a new run: --output_dir {_free_name(self.path)}",
            ) from error
        if version > FORMAT:
            raise RunError(
                f"{self.path} is a run of format {version}, this luthier reads up to {FORMAT}",
                why="it was made by a newer version",
                fix="pip install --upgrade luthier",
            )
        return body

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config_file(self) -> Path:
        """The settings as they were given."""
        return self.path / "config.yaml"

    @property
    def settings_file(self) -> Path:
        """The settings as they were resolved, each with where it came from."""
        return self.path / "settings.json"

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def data_file(self) -> Path:
        """What the rows became."""
        return self.path / "data.json"

    @property
    def ledger_file(self) -> Path:
        """One line per row that was cut or dropped."""
        return self.path / "ledger.jsonl"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def monitor_file(self) -> Path:
        return self.path / "monitor.jsonl"

    @property
    def lock_file(self) -> Path:
        return self.path / "run.lock"

    @property
    def end_file(self) -> Path:
        """Asks a run, by being there, to end after the step at work and write its result."""
        return self.path / "end"

    @property
    def checkpoints(self) -> Path:
        """Folder of `step-000200` and so on."""
        return self.path / "checkpoints"

    @property
    def result(self) -> Path:
        """Adapter or model, tokenizer, model card."""
        return self.path / "result"

    def status(self) -> Status:
        """Its state, read from its events and its lock."""
        return read_status(self.path, events_file=self.events_file, lock_file=self.lock_file)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only process that works here; what a killed one left half-written is removed.

        Raises:
            RunBusyError: Another live process is at work; its id is given.
        """
        with locked(self.lock_file, subject=str(self.path)):
            clean_stale(self.path)
            clean_stale(self.checkpoints)
            yield


def list_runs() -> list[RunDirectory]:
    """Every registered run that still exists, oldest first."""
    return [RunDirectory(path) for path in _registered()]


def _registered() -> list[Path]:
    registry = home() / "runs.jsonl"
    found: dict[Path, None] = {}
    for line in registry.read_bytes().splitlines() if registry.exists() else ():
        try:
            path = Path(decode_ours(line)["path"])
        except (ValueError, TypeError, KeyError):
            continue  # torn by a kill; the run it named is still found by its path
        if (path / RUN_MARK).exists():
            found[path] = None
    return list(found)


def _check_empty(path: Path, resume: bool) -> None:
    """Refuse a place that holds something which is no run."""
    if path.is_dir() and any(not name.startswith(".") for name in os.listdir(path)):
        raise RunExistsError(
            f"output_dir={str(path)!r} is a folder with something else in it",
            why="a run needs a new or empty folder"
            + ("; there is no run here to resume" if resume else ""),
            fix=f"--output_dir {_free_name(path)}",
        )
    if path.exists() and not path.is_dir():
        raise RunExistsError(
            f"output_dir={str(path)!r} is a file",
            why="a run is a folder, and nothing is overwritten",
            fix=f"--output_dir {_free_name(path)}",
        )


def _free_name(path: Path, first: str = "-2", *, never_trained: bool = False) -> Path:
    """`path` with the first ending (nothing, -2, -3 ...) at which nothing exists.

    Args:
        never_trained: A run that ended before its first step counts as nothing.
    """
    ending, number = first, 2
    while os.path.lexists(found := path.with_name(path.name + ending)):
        if never_trained and (found / RUN_MARK).exists() and RunDirectory(found).never_trained:
            return found
        number += bool(ending)
        ending = f"-{number}"
    return found


def _resume_what() -> SettingsError:
    runs = list_runs()
    return SettingsError(
        "resume=true without output_dir: which run is meant is not said",
        why="without output_dir every start is a new run",
        fix=f"--resume true --output_dir {runs[-1].path if runs else 'runs/NAME'}",
    )
