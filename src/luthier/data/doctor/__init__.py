"""The data doctor: what is wrong with rows, why it matters, and how to mend it; no model is loaded."""

from luthier.data.doctor.check import check, head_samples, objective_of
from luthier.data.doctor.finding import Finding
from luthier.data.doctor.fix import FixReport, fix
from luthier.data.doctor.report import Report
from luthier.data.doctor.rules import RULES

__all__ = [
    "RULES",
    "Finding",
    "FixReport",
    "Report",
    "check",
    "fix",
    "head_samples",
    "objective_of",
]
