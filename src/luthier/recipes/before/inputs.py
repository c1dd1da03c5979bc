"""The data of a run: read, rendered and counted before any weight is loaded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.data.prepare import overlap, prepare
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import TemplateText
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Example, Sample
from luthier.durable import write_atomic
from luthier.errors import NoRowsError
from luthier.recipes.before.opening import Opening, load_rows
from luthier.runs import RunDirectory

FIRST = 16
"""Samples that are kept beside their examples, to show and to check by."""


@dataclass
class Inputs:
    """Examples to learn from and to hold out, and how they were made.

    Args:
        first: A few of the samples that were rendered, in their order.
    """

    tokenizer: Tokenizer
    template: TemplateText | None
    train: list[Example]
    held_out: list[Example]
    report: dict[str, Any]
    ledger: list[dict[str, object]]
    notices: list[str] = field(default_factory=list)
    fingerprints: dict[str, str] = field(default_factory=dict)
    renderer: Renderer | None = None
    first: Sequence[Sample] = ()

    def longest_sample(self) -> int:
        """Tokens of the largest sample, its sequences added up."""
        everything = [*self.train, *self.held_out]
        return max(sum(len(s.ids) for s in example.sequences) for example in everything)

    def longest_sequence(self) -> int:
        """Tokens of the longest sequence."""
        everything = [*self.train, *self.held_out]
        return max(len(s.ids) for example in everything for s in example.sequences)

    def write(self, run: RunDirectory) -> None:
        """`data.json` and `ledger.jsonl`."""
        write_atomic(run.data_file, json.dumps(self.report, indent=2, ensure_ascii=False) + "\n")
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in self.ledger]
        write_atomic(run.ledger_file, "".join(lines))


def make_inputs(opening: Opening) -> Inputs:
    """Render all data of the run.

    Raises:
        DataError: And its kinds, each naming files, lines and reasons.
    """
    settings, renderer, rows = opening.settings, opening.renderer, opening.rows
    train = prepare(rows, renderer, bad_rows=settings.bad_rows, role="train")
    inputs = Inputs(
        opening.tokenizer,
        renderer.template,
        train.examples,
        [],
        {"train": train.report},
        list(train.ledger),
        list(train.notices),
        {"data": train.fingerprint},
        renderer,
        tuple(rows.samples[:FIRST]),
    )
    if settings.eval_dataset:
        held_rows = load_rows(settings, settings.eval_dataset)
        held_out = prepare(held_rows, renderer, bad_rows=settings.bad_rows, role="eval")
        inputs.held_out = held_out.examples
        inputs.report["eval"] = held_out.report
        inputs.ledger += held_out.ledger
        inputs.notices += [f"eval_dataset: {notice}" for notice in held_out.notices]
        inputs.notices += _leaked(rows.samples, held_rows.samples, "eval_dataset")
        inputs.fingerprints["eval_data"] = held_out.fingerprint
    elif settings.eval_split:
        inputs.train, inputs.held_out = split(train.examples, settings.eval_split, settings.seed)
        inputs.report["eval"] = {"rows": len(inputs.held_out), "split_from": "dataset"}
        by_origin = {sample.origin: sample for sample in rows.samples}
        learned, held = (
            [by_origin[example.origin] for example in side]
            for side in (inputs.train, inputs.held_out)
        )
        inputs.notices += _leaked(learned, held, "eval_split")
        inputs.fingerprints["eval_data"] = f"split {settings.eval_split} seed {settings.seed}"
    renderer.rest()
    return inputs


def _leaked(train: Sequence[Sample], held_out: Sequence[Sample], where: str) -> list[str]:
    """A sentence if held-out rows are learned from, which makes their figures too good."""
    if not (count := overlap(train, held_out)):
        return []
    return [
        f"{where}: {count} of {len(held_out)} held-out rows are also learned from, "
        "so the figures on them say little"
    ]


def split(
    examples: Sequence[Example], amount: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Hold out a share (below 1) or a number of the samples, chosen by the seed, order kept.

    Raises:
        NoRowsError: Nothing would be left on one side.
    """
    wanted = round(amount * len(examples)) if amount < 1 else int(amount)
    wanted = max(1, wanted)
    if wanted >= len(examples):
        raise NoRowsError(
            f"eval_split={amount:g} would hold out {wanted} of {len(examples)} rows",
            why="at least one row must be left to learn from",
            fix="--eval_split 0.1",
        )
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(examples))
    chosen = set(order[:wanted].tolist())
    train = [example for place, example in enumerate(examples) if place not in chosen]
    return train, [examples[place] for place in sorted(chosen)]
