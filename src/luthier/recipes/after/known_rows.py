"""Rows to measure an export by: of the training where its files are still there, built-in texts otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from luthier.bounded import decode
from luthier.config.read import load_saved
from luthier.config.settings import Settings
from luthier.data.types import Example
from luthier.errors import DataError
from luthier.recipes.before.inputs import FIRST
from luthier.recipes.before.opening import open_run
from luthier.recipes.before.recorded import recorded_rendering
from luthier.recipes.before.tokens import open_tokenizer
from luthier.recipes.written.rows import WrittenRow, rows_to_check
from luthier.sources.source import ModelSource

ROWS, TOKENS = 4, 128
"""Rows and tokens of each that are measured."""


@dataclass(frozen=True)
class KnownRows:
    """What is at hand.

    Args:
        ids: Token ids of a few rows.
        said: What they are.
        examples: Of the training; empty where its files are gone.
        checked: The same in a form that others can check.
    """

    ids: list[Any]
    said: str
    examples: Sequence[Example] = ()
    checked: Sequence[WrittenRow] = ()


def known_rows(source: ModelSource) -> KnownRows:
    """A few rows of a result's training, or built-in texts."""
    settings = load_saved(source.run / "settings.json").settings if source.run else None
    if settings is not None:
        try:
            examples, checked = _rendered(source, settings)
        except DataError:  # moved, changed or deleted since: others serve as well
            examples, checked = [], []
        if examples:
            ids = [example.sequences[0].ids[:TOKENS] for example in examples[:ROWS]]
            return KnownRows(ids, f"{len(ids)} training rows", examples[:ROWS], checked)
    text = (files("luthier") / "starter" / "data" / "sft_eval.jsonl").read_text("utf-8")
    lines = [decode(line)["messages"] for line in text.splitlines()[:ROWS]]
    tokenizer = open_tokenizer(source)
    ids = [tokenizer.encode("\n".join(m["content"] for m in line))[:TOKENS] for line in lines]
    return KnownRows(ids, f"{len(ids)} built-in texts")


def _rendered(source: ModelSource, settings: Settings) -> tuple[list[Example], list[WrittenRow]]:
    opening = open_run(settings, source, recorded=recorded_rendering(source))
    samples = opening.rows.samples[:FIRST]
    made = (opening.renderer.render(sample) for sample in samples)
    examples = [one for one in made if isinstance(one, Example)]
    return examples, rows_to_check(opening.renderer, samples)
