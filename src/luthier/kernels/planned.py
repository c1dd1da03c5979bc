"""The device that products are planned for, where it is not the one that tensors are on.

A dry run computes shapes on fake CPU tensors, also for a GPU that is not here: fake CUDA tensors end
the process on a build of torch without CUDA.  Kernels that choose their form by device ask here.
Outside of a dry run every answer is the device's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_planned: list[tuple[int, int]] = []


@contextmanager
def planning_for_cuda(capability: tuple[int, int]) -> Iterator[None]:
    """Within, CPU tensors stand for those of a CUDA device of this compute capability."""
    _planned.append(capability)
    try:
        yield
    finally:
        _planned.pop()


def device_kind(device: torch.device) -> str:
    """`cpu`, `cuda` or another type: of the device planned for, if there is one."""
    return "cuda" if _planned and device.type == "cpu" else device.type


def cuda_capability(device: torch.device) -> tuple[int, int]:
    """Compute capability of a CUDA device, or of the one planned for."""
    return _planned[-1] if _planned else torch.cuda.get_device_capability(device)
