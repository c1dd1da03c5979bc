"""Recognising that memory ran out, and giving back what can be given back."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

Done = TypeVar("Done")

_MESSAGES = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",  # the driver's own word, also inside NCCL's
    "status_alloc_failed",  # cuBLAS, cuSOLVER and cuDNN
    "cublas_status_not_initialized",  # a handle is made at a thread's first product, and takes memory
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that a device or the host had no memory left.

    torch raises `OutOfMemoryError` from its CUDA allocator alone.  What libraries and the driver
    take beside it, and its CPU allocator, end in other RuntimeErrors, known by their text.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(part in text for part in _MESSAGES)


def with_room(work: Callable[[], Done]) -> Done:
    """Do a piece of work; where memory runs out in it, give back what can be, and do it again.

    Args:
        work: Has changed nothing when it runs out of memory.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        error.with_traceback(None)  # the frames hold tensors
    release_memory()
    return work()


def release_memory() -> None:
    """Collect what nothing refers to, and return cached device blocks to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
