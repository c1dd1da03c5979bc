"""Checkpoints of a run: what goes in, what must match to go on, and the way back."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luthier.config.settings import Settings
from luthier.engine.best import Best
from luthier.engine.checkpoint import (
    Loaded,
    check_fingerprints,
    check_tensors,
    load_checkpoint,
    save_checkpoint,
)
from luthier.engine.distribution import Ranks
from luthier.engine.loop import LoopState
from luthier.engine.optim import Updater
from luthier.recipes.steps import StepSource
from luthier.runs import EventLog, RunDirectory

MAY_CHANGE = frozenset(
    {
        "resume",
        "output_dir",
        "logging_steps",
        "eval_steps",
        "save_steps",
        "save_total_limit",
        "report_to",
        "num_train_epochs",
        "max_steps",
        "early_stopping_patience",
        "devices",
        "micro_batch_tokens",
        "gradient_checkpointing",
    }
)
"""Settings that a resumed run may change: they move no sample and no weight, or only the end."""

_ELSEWHERE = {"dataset", "eval_dataset", "model"}  # compared by content: paths may have moved


def settings_fingerprints(settings: Settings) -> dict[str, str]:
    """One fingerprint for each setting that a resume compares."""
    values = settings.model_dump(mode="json")
    return {
        f"setting {name}": str(value)
        for name, value in values.items()
        if name not in MAY_CHANGE | _ELSEWHERE
    }


class Keeper:
    """Writes the checkpoints of a run and restores them.

    Args:
        fingerprints: Of data, template, settings, starting adapter and base model.
        extra: Further JSON values to keep, asked at each save.
    """

    def __init__(
        self,
        run: RunDirectory,
        log: EventLog | None,
        *,
        updater: Updater,
        source: StepSource,
        loop: LoopState,
        best: Best,
        ranks: Ranks,
        fingerprints: Mapping[str, str],
        keep: int | None,
        extra: Callable[[], dict[str, Any]],
    ) -> None:
        self.run, self.log = run, log
        self.updater, self.source, self.loop, self.best = updater, source, loop, best
        self.ranks, self.fingerprints, self.keep, self.extra = ranks, fingerprints, keep, extra
        self.resumed_from: int | None = None

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by name."""
        return {name: weight.detach() for name, weight in self.updater.trained.items()}

    def save(self, step: int) -> Path | None:
        """Write the state after `step`; only the first rank writes, all wait for it."""
        path = None
        if self.ranks.first:
            protect = {s for s in (self.best.step, self.resumed_from) if s is not None}
            # The best one is kept beside those that the limit counts.
            keep = None if self.keep is None else self.keep + len(protect - {step})
            info = save_checkpoint(
                self.run.checkpoints,
                step=step,
                tensors={"weights": self.weights(), "optimizer": self.updater.state_tensors()},
                state={
                    "loss_scale": self.loop.loss_scale,
                    "budget": self.source.budget,
                    "best": self.best.as_dict(),
                    "updates": self.updater.step,
                    "extra": self.extra(),
                },
                fingerprints=self.fingerprints,
                keep=keep,
                protect=protect,
            )
            path = info.path
            assert self.log is not None
            self.log.emit(
                "checkpoint",
                step=step,
                path=str(info.path),
                bytes=info.bytes,
                seconds=info.seconds,
                removed=list(info.removed),
            )
            for warning in info.warnings:
                self.log.emit("warning", text=warning)
        self.ranks.wait()
        return path

    @torch.no_grad()
    def restore(self, loaded: Loaded, *, patience: int | None) -> None:
        """Continue from a verified checkpoint.

        Raises:
            ResumeError: Something the run depends on is no longer the same.
        """
        check_fingerprints(loaded.fingerprints, self.fingerprints)
        check_tensors(loaded, "weights", self.weights())
        for name, weight in self.updater.trained.items():
            weight.data.copy_(loaded.tensors["weights"][name])
        self.updater.load_state(loaded.tensors["optimizer"], loaded.state["updates"])
        self.loop.loss_scale = loaded.state["loss_scale"]
        self.source.budget = min(self.source.budget, loaded.state["budget"])
        saved = Best.from_dict(loaded.state["best"], metric=self.best.metric, patience=patience)
        for name, value in saved.as_dict().items():
            setattr(self.best, name, value)
        self.resumed_from = loaded.step

    @torch.no_grad()
    def load_best(self) -> None:
        """Put the weights of the best checkpoint in place."""
        assert self.best.step is not None
        loaded = load_checkpoint(self.run.checkpoints / f"step-{self.best.step:06d}")
        for name, weight in self.updater.trained.items():
            weight.data.copy_(loaded.tensors["weights"][name])
