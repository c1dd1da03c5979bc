"""Fine-tune: in this process, or in one for each device."""

from collections.abc import Sequence
from pathlib import Path

from luthier.config.launch_file import NOTHING, Launch, Wishes
from luthier.config.read import Resolved
from luthier.engine.distribution import Ranks, join_ranks, leave_ranks
from luthier.errors import LuthierError, RankError
from luthier.events import Failed
from luthier.recipes.run.devices import check_devices, free_devices, lease_names
from luthier.recipes.run.launch import launch
from luthier.recipes.run.rank import run_rank
from luthier.runs import RunDirectory, device_lease
from luthier.runs.ended import RunResult
from luthier.runs.log import Listener


def run(
    resolved: Resolved, *, on_event: Listener | None = None, wishes: Wishes = NOTHING
) -> RunResult:
    """Train as the settings say; in this process, or in one for each device.

    Args:
        on_event: Called with every event of the run.

    Raises:
        LuthierError: With what, why and fix; the run directory then says `failed`.
    """
    settings = resolved.settings
    check_devices(settings.devices)
    devices = free_devices(settings.devices)
    with device_lease(*lease_names(devices), what=f"a training of {settings.model}"):
        directory = RunDirectory.create(
            settings.output_dir,
            name_parts=[settings.model, settings.dataset[0]],
            resume=settings.resume,
            datasets=[Path(name) for name in settings.dataset],
        )
        if settings.devices > 1:
            with directory.lock():  # refused while another process works here
                Launch(resolved, wishes).write(directory.path)
        return run_leased(resolved, directory, on_event, devices, wishes)


def run_leased(
    resolved: Resolved,
    directory: RunDirectory,
    on_event: Listener | None,
    devices: Sequence[int],
    wishes: Wishes,
) -> RunResult:
    """Train in a directory that exists, by one whose devices are taken already.

    For several devices `launch.json` of the run holds the settings.
    """
    if len(devices) == 1:
        return run_rank(resolved, directory, Ranks(), on_event, device=devices[0], wishes=wishes)
    last = launch(directory.path, lease_names(devices), len(devices), on_event or (lambda _: None))
    if isinstance(last, Failed):
        known = last.code != "E000"
        said = f"what every process said is in {directory.path / 'stderr.log'}"
        raise RankError(
            last.what,
            why=last.why or "one of the processes failed, perhaps not the one that says so",
            fix=last.fix if known else said,
        )
    return RunResult.from_dict(dict(last.summary or {}))


def run_launched(path: Path) -> int:
    """What each worker process of several does; returns its exit status."""
    told = Launch.read(path)
    try:
        run_rank(told.resolved, RunDirectory.open(path), join_ranks(), None, wishes=told.wishes)
    except LuthierError:
        return 2  # the first rank wrote it into the events
    leave_ranks()
    return 0
