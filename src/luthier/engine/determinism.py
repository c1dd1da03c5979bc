"""Deterministic kernels for the time of a run: always on the CPU, on a GPU when asked for."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def deterministic(device: torch.device, wanted: bool) -> Iterator[None]:
    """Switch torch's deterministic algorithms on, and back to what they were.

    torch would also fill every new tensor with NaN, to show who reads what was never written: 3 to
    6 % of a step on the CPU, and every page of a buffer touched.  No kernel here reads such memory.

    cuBLAS needs a fixed workspace for it, which it reads before its first product.
    """
    before = torch.are_deterministic_algorithms_enabled()
    switches: Any = torch.utils.deterministic  # its properties are unknown to type checkers
    filling = switches.fill_uninitialized_memory
    cuda = device.type == "cuda"
    if cuda and wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted or not cuda)
    switches.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        switches.fill_uninitialized_memory = filling
