"""The product's own path from rows to gradients: rendering, packing, model, objective, loop."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tests.tiny import SPECIAL, tiny_model_folder
from torch import Tensor

from luthier.config import read
from luthier.config.settings import Settings
from luthier.data.packing.steps import StepPlanner
from luthier.data.prepare import prepare
from luthier.data.rendering.template import choose_template
from luthier.engine.distribution import Ranks
from luthier.engine.loop import train
from luthier.engine.optim import Updater
from luthier.recipes.before.opening import open_run
from luthier.recipes.run.objective import PairObjective, TokenObjective
from luthier.recipes.run.reference import ReferenceCache, score_pairs
from luthier.recipes.run.steps import Cutter, StepSource
from luthier.recipes.run.trainee import Trainee, make_trainee
from luthier.sources.source import resolve_source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CUTS: dict[str, dict[str, Any]] = {
    "flat": {"micro_batch_tokens": 10_000, "share_prefixes": False},
    "tree": {"micro_batch_tokens": 10_000, "share_prefixes": True},
    "one by one": {"micro_batch_tokens": 8, "share_prefixes": False},
    "small flat": {"micro_batch_tokens": 150, "share_prefixes": False},
    "small tree": {
        "micro_batch_tokens": 150,
        "share_prefixes": True,
        "gradient_checkpointing": "full",
    },
}


def model_folder(path: Path, family: str) -> Path:
    """A tiny model whose tokenizer writes a BOS, through its template and its config alike."""
    tiny_model_folder(path, family)
    config = json.loads((path / "tokenizer_config.json").read_text())
    config |= {"bos_token": SPECIAL[0], "add_bos_token": True}
    config["chat_template"] = "{{ bos_token }}" + config["chat_template"]
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


class Recorder(Updater):
    """Keeps the gradients that an update is made of."""

    def apply(self, learning_rate: float) -> None:
        self.seen = {name: grad.clone() for name, grad in self.gradients().items()}
        super().apply(learning_rate)


ONE = Ranks()


@dataclass
class Product:
    """A model as a run would have it, and its data."""

    settings: Settings
    trainee: Trainee
    examples: list[Any]
    ranks: Ranks = ONE

    def reference(self) -> Tensor:
        """Reference values of the pairs, of the model as it stands."""
        cache = ReferenceCache(Path("/nonexistent"))
        cache.write = lambda: None  # type: ignore[method-assign]
        values = score_pairs(
            lambda batch: self.trainee.score(batch).logp_S,
            self.examples,
            cache,
            share=self.settings.share_prefixes is True,
            ranks=Ranks(),
            progress=lambda done, total: None,
        )
        return torch.from_numpy(values)

    def steps(self) -> StepSource:
        """Optimiser steps over all rows each."""
        settings = self.settings
        planner = StepPlanner(
            self.examples,
            seed=settings.seed,
            samples_per_step=len(self.examples),
            micro_batch_tokens=settings.micro_batch_tokens,
            share=settings.share_prefixes is True,
            max_sequences=self.trainee.max_sequences,
        )
        cutter = Cutter(
            self.examples,
            objective=settings.objective,
            budget=settings.micro_batch_tokens,
            share=settings.share_prefixes is True,
            max_sequences=self.trainee.max_sequences,
            ranks=self.ranks,
            warn=print,
        )
        return StepSource(cutter, planner)

    def one_step(self, reference_P2: Tensor | None = None) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradient of one optimiser step over all rows."""
        steps = self.steps()
        objective = (
            TokenObjective(self.trainee)
            if reference_P2 is None
            else PairObjective(self.trainee, reference_P2, self.settings)
        )
        updater = Recorder(self.trainee.trained, max_grad_norm=0.0)
        reports: list[Any] = []
        train(
            objective,
            steps.plan,
            updater,
            first_step=1,
            last_step=1,
            learning_rate=lambda step: 0.0,
            on_step=lambda report: reports.append(report),
            shrink=steps.shrink,
            ranks=self.ranks,
        )
        return reports[0].loss, updater.seen


def make_product(
    folder: Path, rows: list[Any], work: Path, *, cut: str = "flat", **settings: Any
) -> Product:
    """Rows through files, formats and template into a loaded model."""
    data = work / "rows.jsonl"
    data.write_text("".join(json.dumps(as_row(row)) + "\n" for row in rows))
    resolved = read.load(
        {
            "model": str(folder),
            "dataset": str(data),
            "torch_dtype": "float32",
            **CUTS[cut],
            **settings,
        }
    )
    source = resolve_source(str(folder))
    opening = open_run(resolved.settings, source, now=NOW)
    prepared = prepare(opening.rows, opening.renderer, bad_rows="refuse")
    trainee = make_trainee(resolved.settings, source, torch.float32, torch.device("cpu"))
    trainee.ready(
        checkpointing=resolved.settings.gradient_checkpointing, seed=resolved.settings.seed
    )
    return Product(resolved.settings, trainee, prepared.examples)


def as_row(row: Any) -> Mapping[str, Any]:
    """A conversation or a preference as a line of JSON."""
    return row if isinstance(row, Mapping) else {"messages": row}


__all__ = ["CUTS", "Product", "choose_template", "make_product", "model_folder"]
