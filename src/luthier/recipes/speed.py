"""How fast this machine multiplies, timed once and kept for the planner."""

import time

import torch

from luthier.kernels.cpu import matmul_dtype
from luthier.planner.choose import choose_dtype
from luthier.planner.history import keep_rate
from luthier.recipes.run.devices import facts_of

TIMED_S = 0.3
_SIZES = {"cpu": 512, "cuda": 4096}


def time_products(device: torch.device) -> tuple[str, float]:
    """The dtype of training on a device, and operations per second of square products in it.

    Kept in `machine.json`, where `luthier plan` finds it.
    """
    facts = facts_of(device)
    name, _ = choose_dtype("auto", facts)
    dtype = matmul_dtype(getattr(torch, name), device)
    size = _SIZES[device.type]
    left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    _products(left, right, 2)  # threads and kernels are awake
    fastest, ends = float("inf"), time.perf_counter() + TIMED_S
    while (started := time.perf_counter()) < ends:
        _products(left, right, 1)
        fastest = min(fastest, time.perf_counter() - started)  # others may use the machine too
    flops = 2 * size**3 / fastest
    keep_rate(facts.name, name, flops)
    return name, flops


def _products(left: torch.Tensor, right: torch.Tensor, count: int) -> None:
    for _ in range(count):
        left @ right
    if left.is_cuda:
        torch.cuda.synchronize()
