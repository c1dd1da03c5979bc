"""What a tracker is, and which package each needs."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from luthier.errors import MissingExtraError
from luthier.runs import RunDirectory

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny"}
"""The name in `report_to`, which is also that of the module, and the package that brings it."""

FOLDERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlruns"}
"""Where each writes below the run directory."""


class Tracker(Protocol):
    """One place that figures go to.  Every method may raise; the reporter then drops it.

    Attributes:
        has: The highest step that it holds already and must not be told again; -1 for none.
    """

    has: int

    def settings(self, values: Mapping[str, Any]) -> None:
        """The settings of the run, once every open one is decided."""

    def rewind(self, step: int) -> None:
        """The run goes on behind `step`: what came later is void."""

    def figures(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """Finite figures of one step; `time` in seconds since the epoch."""

    def flush(self) -> None:
        """Everything so far is out of this process."""

    def end(self, state: str) -> None:
        """The run ended: `finished`, `interrupted` or `failed`."""


def require(name: str) -> None:
    """Whether the package of a tracker is here.

    Args:
        name: A value of `report_to`; `none` needs nothing.

    Raises:
        MissingExtraError: It is not installed.
    """
    if name != "none" and importlib.util.find_spec(name) is None:
        raise MissingExtraError(
            f"report_to: {name} needs the package {PACKAGES[name]}",
            why="trackers are an extra; events.jsonl in the run directory holds every figure anyway",
            fix="pip install 'luthier[trackers]', or --report_to none",
        )


def open_tracker(name: str, directory: RunDirectory, reported: int) -> Tracker:
    """The tracker called `name`, going on with what it has of this run.

    Args:
        reported: The highest step in the events of the run before now; -1 for none.
    """
    folder: Path = directory.path / FOLDERS[name]
    if name == "tensorboard":
        from luthier.trackers.tensorboard import TensorBoard

        return TensorBoard(folder, reported)
    key = hashlib.sha256(repr(directory.info["created"]).encode()).hexdigest()[:16]
    if name == "wandb":
        from luthier.trackers.wandb import WeightsAndBiases

        return WeightsAndBiases(folder, directory.name, key, reported)
    from luthier.trackers.mlflow import MLflow

    return MLflow(folder, directory.name, key)
