"""Advice as people read it: each setting with its value, its reason and where the rule is from."""

import shutil
from pathlib import Path

from luthier.advisor.reason import Advice, Reason
from luthier.advisor.sources import SOURCES
from luthier.cli.drawing import next_steps
from luthier.cli.drawing.folding import folded
from luthier.cli.drawing.render import cell, clean, line


def show(advice: Advice, *, written: Path | None) -> None:
    """The table of choices, then remarks, then what to do next."""
    of_setting = max(len(reason.setting) for reason in advice.reasons)
    of_value = max(len(_value(reason)) for reason in advice.reasons)
    width = max(
        40, min(120, shutil.get_terminal_size((80, 24)).columns) - of_setting - of_value - 4
    )
    for reason in advice.reasons:
        source = SOURCES[reason.source].title
        lines = _wrapped(f"{reason.text(advice.lang)} [{source}]", width)
        line(f"{reason.setting.ljust(of_setting)}  {_value(reason).ljust(of_value)}  {lines[0]}")
        for more in lines[1:]:
            line(" " * (of_setting + of_value + 4) + more)
    for remark in advice.remarks:
        line("")
        for text in _wrapped(f"! {remark.text(advice.lang)}", width + of_setting + of_value):
            line(text)
    line("")
    if written is not None:
        line(f"written to {written}")
        next_steps.show(next_steps.after_advice(written))
    else:
        line("--output run.yaml writes this as a config for luthier train")


def _value(reason: Reason) -> str:
    if isinstance(reason.value, bool):
        return str(reason.value).lower()
    return f"{reason.value:g}" if isinstance(reason.value, float) else cell(reason.value)


def _wrapped(text: str, width: int) -> list[str]:
    return list(folded(clean(text), width))
