"""What to do next: commands that can be pasted, each whole on a line of its own."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from luthier.cli.drawing.render import line


def show(commands: Sequence[tuple[str, str]]) -> None:
    """Commands with what each is for."""
    if commands:
        line("")
        line("next:")
    for command, purpose in commands:
        line(f"  {command}")
        line(f"      {purpose}")


def word(path: str | Path) -> str:
    """A path as a word of a command, from here where that is the shorter way to say it."""
    absolute = os.path.abspath(Path(path).expanduser())
    here = os.path.relpath(absolute)
    return shlex.quote(min(here, absolute, key=len))


def after_training(path: Path, *, reason: str, step: int) -> list[tuple[str, str]]:
    """For a run that ended: use it, or go on with it."""
    run = word(path)
    if reason == "interrupted":
        if step == 0:
            return []
        return [(f"luthier train --resume true --output_dir {run}", f"go on from step {step:,}")]
    target = word(Path(os.path.relpath(path)).name + "-merged")
    return [
        (f"luthier chat {run}", "talk to it; /compare TEXT asks the base too"),
        (f"luthier runs show {run}", "settings, data and held-out figures of the run"),
        (f"luthier export {run} --to merged --output {target}", "one model for other tools"),
    ]


def after_fix(output: str, *, model: str) -> list[tuple[str, str]]:
    """For a file that was mended: look again, then train."""
    file, name = word(output), shlex.quote(model)
    return [
        (f"luthier data check {file} --model {name}", "look at it again"),
        (f"luthier train --model {name} --dataset {file}", "learn from it"),
    ]


def after_advice(written: Path) -> list[tuple[str, str]]:
    """For a config that was written."""
    config = word(written)
    return [
        (f"luthier plan {config}", "memory, time and disk before anything is loaded"),
        (f"luthier train {config}", "train as advised"),
    ]
