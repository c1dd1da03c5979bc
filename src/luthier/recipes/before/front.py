"""What Python can ask before a run, without torch: `luthier.plan`, `advise`, `check`, `fix`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack

from luthier.advisor.reason import Advice
from luthier.config import read
from luthier.config.keywords import SettingsKeywords
from luthier.data import doctor
from luthier.data.doctor.fix import FixReport
from luthier.data.doctor.report import Report
from luthier.planner.device import Device
from luthier.planner.plan import Plan
from luthier.recipes.before.advise import advise_run
from luthier.recipes.before.check import check_data
from luthier.recipes.before.planned import make_plan
from luthier.recipes.before.short_errors import short_errors


@short_errors
def plan(
    config: str | Path | None = None,
    *,
    device: str | None = None,
    **settings: Unpack[SettingsKeywords],
) -> Plan:
    """Memory, time and disk of a run before anything is loaded, and what to change if it does not fit.

    Args:
        config: A YAML file of settings; keyword arguments win over it.
        device: Another machine, as `"T4 16GB"`; None is this one.
        settings: Any setting of `luthier.train`; without `dataset` the longest rows are assumed.

    Raises:
        LuthierError: With what went wrong, why, and what would make it work.
    """
    named = Device.parse(device) if device else None
    return make_plan(Path(config) if config is not None else None, settings, device=named).plan


@short_errors
def advise(
    *,
    goal: str = "",
    device: str | None = None,
    lang: str = "en",
    **settings: Unpack[SettingsKeywords],
) -> Advice:
    """Settings for your rows, model and machine, each with its reason; settings given are kept.

    Args:
        goal: What it is for, in words.
        device: A machine that may not be here.
        lang: Of the reasons: en, zh, id, vi.

    Raises:
        LuthierError: Model or rows are not here, or the rows cannot be learned from.

    Example:
        advice = luthier.advise(model="starter", dataset="rows.jsonl")
        luthier.train(**advice.settings)
    """
    resolved = read.load(None, arguments=settings)
    return advise_run(resolved, goal=goal, device=device, lang=lang)


@short_errors
def check(files: str | Path | Sequence[str | Path], **settings: Unpack[SettingsKeywords]) -> Report:
    """Look for what spoils a run: every row accounted for, lengths, and findings with their fix.

    Args:
        settings: As for a run; without `model` tokens are counted with the starter's tokenizer.

    Raises:
        LuthierError: The model or a file cannot be found; what is wrong inside a file is a finding.
    """
    given = {"model": "starter", **settings, "dataset": files}
    return check_data(read.load(None, arguments=given))


@short_errors
def fix(
    file: str | Path,
    output: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> FixReport:
    """Write a file again with the safe fixes applied, in a known format, beside a list of them.

    Args:
        columns: Our names for those of the file; the new one needs none.
        encoding: Of the file; None is UTF-8.

    Raises:
        LuthierError: `output` exists, or the file cannot be read.
    """
    return doctor.fix(file, output, columns=columns, encoding=encoding)
