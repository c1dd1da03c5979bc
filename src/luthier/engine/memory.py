"""Recognising that memory ran out, and giving back what can be given back."""

import gc

import torch

_CPU_MESSAGES = ("not enough memory", "can't allocate memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that a device or the host had no memory left.

    torch raises `OutOfMemoryError` on CUDA and a plain RuntimeError from its CPU allocator.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _CPU_MESSAGES)


def release_memory() -> None:
    """Collect what nothing refers to, and return cached device blocks to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
