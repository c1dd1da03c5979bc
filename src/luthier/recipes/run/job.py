"""One attempt at a job of the service: a run in a directory that was made for it.

Whatever else is started for the same job, two attempts never work at once, and an attempt that has
been replaced does nothing: the run's `worker.lock` and the attempt in `launch.json` decide.
"""

import contextlib
import sys
from pathlib import Path

from luthier.config.launch_file import Launch
from luthier.errors import LuthierError, RunBusyError
from luthier.recipes.run.devices import check_devices, free_devices, lease_names
from luthier.recipes.run.train import run_leased
from luthier.runs import RunDirectory, device_lease
from luthier.runs.exit_status import BUSY, FAILED, FENCED
from luthier.runs.place import locked
from luthier.trackers import require


def run_job(path: Path, attempt: int) -> int:
    """Train, or go on training, as `launch.json` says; returns the exit status of the process.

    0 when done, 143 after SIGTERM with a checkpoint saved, or one of `runs.exit_status`.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path / "worker.lock", subject=str(path)))
            told = Launch.read(path)
            settings = told.resolved.settings
            if told.attempt != attempt:
                return FENCED
            devices = free_devices(settings.devices)
            stack.enter_context(device_lease(*lease_names(devices), what=f"run {path.name}"))
        except RunBusyError:
            return BUSY
        directory = RunDirectory.open(path)
        try:
            check_devices(settings.devices)
            require(settings.report_to)
            return run_leased(told.resolved, directory, None, devices, told.wishes).exit_code
        except RunBusyError:  # somebody resumed the run by hand
            return BUSY
        except LuthierError as error:
            sys.stderr.write(f"error: {error}\n")  # stderr.log is what people look at first
            return FAILED
