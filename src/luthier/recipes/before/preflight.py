"""What can be refused before torch is loaded and before a run directory exists.

Everything here is looked at again by the run itself; this is only sooner.  What would take long, or
a look at the hub, is left to the run.
"""

from pathlib import Path

from luthier.config.read import Resolved
from luthier.config.settings import Settings
from luthier.data.reading.files import check_file
from luthier.data.reading.read import expand
from luthier.recipes.before.inputs import make_inputs
from luthier.recipes.before.opening import open_run
from luthier.recipes.before.proof_wanted import skips_proof
from luthier.recipes.before.start import agree_with_start
from luthier.runs import RunDirectory
from luthier.sources.source import resolve_local
from luthier.sources.weights import find_weights
from luthier.trackers import require

SMALL_BYTES = 2 * 2**20
"""Data up to this size is read and rendered here; more would make the start of a run slower."""


def preflight(resolved: Resolved) -> None:
    """Check place, model and data of a run as far as it is quick.

    Raises:
        LuthierError: What the run itself would raise.
    """
    settings = resolved.settings
    require(settings.report_to)
    skips_proof()  # junk in the environment is refused, whether or not it is looked at later
    if settings.resume:
        return  # compared with what the run began with, by the run
    if settings.output_dir is not None:
        RunDirectory.check_free(
            settings.output_dir, datasets=[Path(name) for name in settings.dataset]
        )
    files = _files(settings)
    source = resolve_local(settings.model)
    if source is None:
        return
    if not settings.from_scratch:
        find_weights(source.base)
    resolved = agree_with_start(resolved, source)
    if files is not None and sum(file.stat().st_size for file in files) <= SMALL_BYTES:
        make_inputs(open_run(resolved.settings, source))


def _files(settings: Settings) -> list[Path] | None:
    """The files of all rows, each of which can be opened; None if some are on the hub."""
    try:
        files = expand([*settings.dataset, *settings.eval_dataset], fetch=_not_here)
    except _OnHubError:
        return None
    for file in files:
        check_file(file)
    return files


class _OnHubError(Exception):
    """Rows that would have to be fetched."""


def _not_here(name: str) -> Path:
    raise _OnHubError(name)
