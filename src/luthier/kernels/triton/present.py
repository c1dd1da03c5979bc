"""Whether the Triton forms run here, and how they are launched.

Triton is no requirement: where it is absent the plain twins compute the same.  The kernels are read
when the first of them is launched, so that nothing here needs Triton to be imported.
"""

import importlib
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from luthier.kernels.planned import cuda_capability, device_kind

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def usable(*tensors: Tensor) -> bool:
    """Whether these go to the Triton forms: on CUDA, of one dtype that the kernels know.

    Bfloat16 below compute capability 8.0 does not: those devices have no instructions for it.
    """
    device, dtype = tensors[0].device, tensors[0].dtype
    if device_kind(device) != "cuda" or not installed():
        return False
    if dtype not in DTYPES or any(tensor.dtype != dtype for tensor in tensors):
        return False
    return dtype != torch.bfloat16 or cuda_capability(device) >= (8, 0)


@cache
def installed() -> bool:
    """Whether Triton can be imported."""
    return find_spec("triton") is not None


def kernel(module: str, name: str) -> Any:
    """A compiled kernel of this folder."""
    return getattr(importlib.import_module(f"luthier.kernels.triton.{module}"), name)


def launch(module: str, name: str, programs: int, given: tuple[Any, ...], **fixed: Any) -> None:
    """Start `programs` programs of a kernel; none where there is nothing to do."""
    if programs:
        kernel(module, name)[(programs,)](*given, **fixed)
