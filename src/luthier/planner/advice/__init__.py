"""The advisor: settings for some rows, a model and a machine, each with its reason."""

from luthier.planner.advice.advise import advise
from luthier.planner.advice.facts import Facts, Machine, Model, Rows
from luthier.planner.advice.reason import Advice, Reason

__all__ = ["Advice", "Facts", "Machine", "Model", "Reason", "Rows", "advise"]
