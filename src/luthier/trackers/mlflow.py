"""MLflow, by the client of `mlflow-skinny`: server and credentials come from the environment."""

import os
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TAG = "luthier.run"
_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}
_LONGEST = 500


class MLflow:
    """One MLflow run for one run directory, found again on resume by its tag.

    `MLFLOW_TRACKING_URI` says where it is, a folder `mlruns` in the run directory if it does not;
    `MLFLOW_EXPERIMENT_NAME` the experiment, `luthier` if it does not.

    Args:
        folder: The store where no other is named.
        name: Shown for the run.
        key: Same for the same run directory.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        from mlflow import entities, tracking  # here, not above: an extra, and slow to load

        self._entities = entities
        if "MLFLOW_TRACKING_URI" not in os.environ:
            # MLflow wants to be told that files are meant; it favours databases for new stores.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = tracking.MlflowClient(
            os.environ.get("MLFLOW_TRACKING_URI") or folder.as_uri()
        )
        called = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "luthier"
        experiment = self._client.get_experiment_by_name(called)
        place = experiment.experiment_id if experiment else self._client.create_experiment(called)
        found = self._client.search_runs([place], f"tags.`{_TAG}` = '{key}'", max_results=1)
        self._new = not found
        if found:
            self._id = found[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            run = self._client.create_run(place, tags={_TAG: key}, run_name=name)
            self._id = run.info.run_id
        self.has = max((point.step for point in self._points()), default=-1)

    def _points(self) -> list[Any]:
        names = ("train/loss", "eval/loss")
        return [p for name in names for p in self._client.get_metric_history(self._id, name)]

    def settings(self, values: Mapping[str, Any]) -> None:
        """As parameters, cut to 500 characters; MLflow never changes them after the first time."""
        if self._new:
            params = [
                self._entities.Param(name, str(value)[:_LONGEST]) for name, value in values.items()
            ]
            self._client.log_batch(self._id, params=params)

    def rewind(self, step: int) -> None:
        """MLflow cannot take a figure back: steps that it has are not told again."""
        tag = self._entities.RunTag("luthier.resumed_from_step", str(step))
        self._client.log_batch(self._id, tags=[tag])

    def figures(self, step: int, time: float, values: Mapping[str, float]) -> None:
        """All in one request."""
        now, metric = int(time * 1000), self._entities.Metric
        metrics = [metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def flush(self) -> None:
        """Every request waits for its answer."""

    def end(self, state: str) -> None:
        """Say how it ended."""
        self._client.set_terminated(self._id, _STATUS[state], int(clock.time() * 1000))
