"""What a process takes besides its tensors: the CUDA context, libraries, fragmentation."""

from luthier.planner.device import Device
from luthier.units import MIB

CUDA_CONTEXT = 500 * MIB
"""Context and kernels outside torch's allocator: 0.4 to 0.7 GB (reference for H100 and A100)."""

CUDA_FRAGMENTATION = 0.03
CPU_PROCESS = 700 * MIB
"""Resident size of a training process before the model: Python, torch, transformers, tokenizers."""

CPU_FRAGMENTATION = 0.05


def runtime_bytes(device: Device, allocated: int, *, learned: int | None = None) -> int:
    """Bytes beside `allocated` ones.

    Args:
        learned: What past runs on this machine took besides, if there were any.
    """
    if learned is not None:
        return learned
    if device.cuda:
        return CUDA_CONTEXT + int(CUDA_FRAGMENTATION * allocated)
    return CPU_PROCESS + int(CPU_FRAGMENTATION * allocated)
