"""The advisor: settings for some rows, a model and a machine, each with its reason."""

from luthier.advisor.advise import advise
from luthier.advisor.facts import Facts, Machine, Model, Rows
from luthier.advisor.reason import Advice, Reason

__all__ = ["Advice", "Facts", "Machine", "Model", "Reason", "Rows", "advise"]
