"""Deterministic kernels for the time of a run: always on the CPU, on a GPU when asked for."""

import contextlib
import os
from collections.abc import Iterator

import torch

from luthier.recipes.choices import Machine


@contextlib.contextmanager
def deterministic(machine: Machine, wanted: bool) -> Iterator[None]:
    """Switch torch's deterministic algorithms on, and back to what they were.

    cuBLAS needs a fixed workspace for it, which it reads before its first product.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if machine.cuda and wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted or not machine.cuda)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
