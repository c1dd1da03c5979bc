"""Lengths of the rows that a plan is made for, counted as training counts them, or estimated."""

from collections.abc import Mapping
from typing import Any

from luthier.config.settings import Settings
from luthier.data.load import Loaded
from luthier.errors import NoRowsError
from luthier.planner.data_shape import DataShape
from luthier.recipes.before.estimate import guess_lengths
from luthier.recipes.before.inputs import make_inputs
from luthier.recipes.before.opening import cut_length, load_rows, open_run
from luthier.sources.source import ModelSource


def lengths_of(
    settings: Settings, source: ModelSource | None, architecture: Mapping[str, Any]
) -> tuple[DataShape, list[str]]:
    """Lengths of the rows: as training cuts them, or estimated without the tokenizer.

    Args:
        source: The model, where its files are at hand.
        architecture: Its `config.json`, or the gallery's excerpt.

    Returns:
        The lengths, and what has to be said about them.

    Raises:
        NoRowsError: No row is left.
        DataError: And its kinds.
    """
    if source is None:
        seq_length, notices = cut_length(settings, architecture)
        data, guessed = _guess(settings, load_rows(settings), seq_length)
        return data, [*notices, *guessed]
    opening = open_run(settings, source)
    inputs = make_inputs(opening)
    if not inputs.train:
        raise NoRowsError(
            f"no row of {', '.join(settings.dataset)} is left to learn from",
            why="every row would be dropped",
            fix=f"luthier data check {settings.dataset[0]} --model {settings.model}",
        )
    return DataShape.of(inputs.train, inputs.held_out), list(opening.notices)


def _guess(settings: Settings, rows: Loaded, seq_length: int) -> tuple[DataShape, list[str]]:
    if not rows.samples:
        raise NoRowsError(
            f"{', '.join(settings.dataset)} has no row that can be used",
            why="a plan needs the lengths of the rows",
            fix=f"luthier data check {settings.dataset[0]}",
        )
    totals, longest, learned, about = guess_lengths(settings, rows.samples)
    data = DataShape.guessed(totals, longest, learned).cut_to(seq_length)
    share = f"{about['mean_error']:.0%} off on average, {about['worst_error']:.0%} at worst"
    return data, [f"the tokenizer is not at hand: lengths are {about['tokenizer']}, {share}"]
