"""Attention over a packed prefix tree, registered with transformers."""

from luthier.kernels.attention.choice import Choice, choose
from luthier.kernels.attention.interface import ATTENTION, attend, register
from luthier.kernels.attention.layout import TreeLayout

__all__ = ["ATTENTION", "Choice", "TreeLayout", "attend", "choose", "register"]
