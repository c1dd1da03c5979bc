"""Checkpoints of a run: what goes in, what must match to go on, and the way back."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from luthier.config.settings import Settings
from luthier.durable import verify_folder
from luthier.engine.best import Best
from luthier.engine.checkpoint import (
    LoadedCheckpoint,
    check_fingerprints,
    check_tensors,
    load_checkpoint,
    save_checkpoint,
)
from luthier.engine.distribution import Ranks
from luthier.engine.loop import LoopState
from luthier.engine.optim import Updater
from luthier.errors import CheckpointError
from luthier.events import CheckpointSaved, Warned
from luthier.recipes.run.steps import Cutter
from luthier.runs import EventLog, RunDirectory

MAY_CHANGE = frozenset(
    {
        "resume",
        "output_dir",
        "logging_steps",
        "eval_steps",
        "sample_prompts",
        "save_steps",
        "save_total_limit",
        "report_to",
        "early_stopping_patience",
        "micro_batch_tokens",
        "gradient_checkpointing",
    }
)
"""Settings that a resumed run may change: they move no sample and no weight."""

_ELSEWHERE = {
    *("dataset", "eval_dataset", "model"),  # compared by content: paths may have moved
    *("per_device_train_batch_size", "gradient_accumulation_steps", "devices"),  # their product
    *("num_train_epochs", "max_steps"),  # by the number of steps
}


def settings_fingerprints(settings: Settings) -> dict[str, str]:
    """One fingerprint for each setting that a resume compares by itself."""
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
        num_steps: Of the whole run.
        cutter: Of training steps.
        held_out: Of evaluations, whose cut may be finer after memory ran out.
    """

    def __init__(
        self,
        run: RunDirectory,
        log: EventLog | None,
        *,
        updater: Updater,
        cutter: Cutter,
        held_out: Cutter,
        loop: LoopState,
        best: Best,
        ranks: Ranks,
        fingerprints: Mapping[str, str],
        num_steps: int,
        keep: int | None,
    ) -> None:
        self.run, self.log = run, log
        self.updater, self.cutter, self.held_out = updater, cutter, held_out
        self.loop, self.best, self.num_steps = loop, best, num_steps
        self.ranks, self.fingerprints, self.keep = ranks, fingerprints, keep
        self.resumed_from: int | None = None

    def weights(self) -> dict[str, Tensor]:
        """The trained weights by name."""
        return {name: weight.detach() for name, weight in self.updater.trained.items()}

    def save(self, step: int, extra: Mapping[str, object]) -> Path | None:
        """Write the state after `step`; only the first rank writes, all wait for it.

        Args:
            extra: Further JSON values to keep.
        """
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
                    "clean_steps": self.loop.clean_steps,
                    "budget": self.cutter.budget,
                    "held_out_budget": self.held_out.budget,
                    "num_steps": self.num_steps,
                    "best": self.best.as_dict(),
                    "updates": self.updater.step,
                    "extra": dict(extra),
                },
                fingerprints=self.fingerprints,
                keep=keep,
                protect=protect,
            )
            path = info.path
            assert self.log is not None
            self.log.emit(
                CheckpointSaved(
                    step=step,
                    path=str(info.path),
                    bytes=info.bytes,
                    seconds=info.seconds,
                    removed=list(info.removed),
                )
            )
            for warning in info.warnings:
                self.log.emit(Warned(text=warning))
        self.ranks.wait()
        return path

    def check(self, loaded: LoadedCheckpoint) -> str | None:
        """Whether this run may go on from a checkpoint; a sentence where it became longer.

        Raises:
            ResumeError: Something the run depends on is no longer the same.
        """
        current = {**self.fingerprints, "steps of the run": str(self.num_steps)}
        before = loaded.state["num_steps"]
        saved = {**loaded.fingerprints, "steps of the run": str(before)}
        longer = self.num_steps > before
        if not check_fingerprints(
            saved, current, may_change={"steps of the run"} if longer else ()
        ):
            check_tensors(loaded, "weights", self.weights())
            return None
        check_tensors(loaded, "weights", self.weights())
        return (
            f"the run now has {self.num_steps} steps instead of {before}: the learning rate of the "
            f"steps behind {loaded.step} is that of a run of {self.num_steps} from the start"
        )

    @torch.no_grad()
    def restore(self, loaded: LoadedCheckpoint, *, patience: int | None) -> None:
        """Continue from a checkpoint that `check` has let pass.

        A best checkpoint that is gone is forgotten, with a warning.
        """
        for name, weight in self.updater.trained.items():
            weight.data.copy_(loaded.tensors["weights"][name])
        self.updater.load_state(loaded.tensors["optimizer"], loaded.state["updates"])
        self.loop.loss_scale = loaded.state["loss_scale"]
        self.loop.clean_steps = loaded.state.get("clean_steps", 0)  # older ones did not count
        self.cutter.budget = min(self.cutter.budget, loaded.state["budget"])
        self.held_out.budget = min(self.held_out.budget, loaded.state["held_out_budget"])
        saved = Best.from_dict(loaded.state["best"], metric=self.best.metric, patience=patience)
        if (lost := self._forget_lost(saved, loaded)) and self.log is not None:
            self.log.emit(Warned(text=lost))
        for name, value in saved.as_dict().items():
            setattr(self.best, name, value)
        self.resumed_from = loaded.step

    def _forget_lost(self, best: Best, loaded: LoadedCheckpoint) -> str | None:
        """Make the best evaluation one whose checkpoint is there: that resumed from, or the next."""
        if best.step is None or best.step == loaded.step:
            return None
        path = self._path(best.step)
        try:
            verify_folder(path)
        except CheckpointError as error:
            why = error.what
        else:
            return None
        gone, value = best.step, best.value
        best.step, best.value = None, None
        extra = loaded.state["extra"]
        extra["history"].pop("best", None)
        if extra["evaluated_at"] == loaded.step:
            last = extra["history"]["last"]
            best.step, best.value = loaded.step, last[best.metric]
            extra["history"]["best"] = last
        return (
            f"the best checkpoint so far, step {gone} ({best.metric} {value:.4g}), cannot be used: "
            f"{why}; the best is looked for anew"
        )

    def _path(self, step: int) -> Path:
        return self.run.checkpoints / f"step-{step:06d}"

    @torch.no_grad()
    def load_best(self) -> None:
        """Put the weights of the best checkpoint in place."""
        assert self.best.step is not None
        loaded = load_checkpoint(self._path(self.best.step))
        for name, weight in self.updater.trained.items():
            weight.data.copy_(loaded.tensors["weights"][name])
