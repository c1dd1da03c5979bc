"""Weights & Biases, by its own client: modes, project and key come from the environment."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class WeightsAndBiases:
    """One W&B run for one run directory, found again on resume by an id made from it.

    `WANDB_MODE=offline` writes below the run directory only; `WANDB_PROJECT` names the project,
    `luthier` if it does not.  Neither console output nor code nor git state is sent.

    Args:
        folder: Local files of W&B.
        name: Shown for the run.
        key: Same for the same run directory.
        reported: The highest step in the events of the run before now.
    """

    def __init__(self, folder: Path, name: str, key: str, reported: int) -> None:
        import wandb  # here, not above: an extra, and slow to load

        folder.mkdir(exist_ok=True)
        known = any(folder.glob(f"wandb/*run-*-{key}"))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "luthier",
            id=key,
            name=name,
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(
                console="off", disable_git=True, save_code=False, x_disable_stats=True, silent=True
            ),
        )
        on_server = self._run.step - 1 if self._run.resumed else -1
        self.has = reported if known and self._run.offline else on_server

    def settings(self, values: Mapping[str, Any]) -> None:
        """As the config of the run; a resume may change it."""
        self._run.config.update(dict(values), allow_val_change=True)

    def rewind(self, step: int) -> None:
        """W&B takes every step once: steps that it has are not told again."""

    def figures(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """One row of the history; calls of the same step are put together."""
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """Its own process sends in its own time."""

    def end(self, state: str) -> None:
        """Send the rest."""
        self._run.finish(exit_code=0 if state == "finished" else 1)
