"""Where a run reports to besides its own files: TensorBoard, Weights & Biases, MLflow."""

from luthier.trackers.report import Reporter, reporting
from luthier.trackers.tracker import Tracker, require

__all__ = ["Reporter", "Tracker", "reporting", "require"]
