"""What this processor multiplies fast, and in which dtype a product should therefore be made.

Without instructions for bfloat16 a CPU emulates it: 15 against 110 GFLOP/s for float32 on two
AVX2 cores.  Casting both sides to float32 for the time of the product is seven times faster, and
more exact.
"""

from functools import cache

import torch

from luthier.kernels.planned import device_kind


@cache
def bf16_matmul_is_fast() -> bool:
    """Whether this CPU has instructions for bfloat16 products (AVX-512 BF16, AMX or SVE/NEON BF16).

    Asks the processor; nothing is timed, so the answer is the same in every process.
    """
    if torch.backends.cpu.get_cpu_capability().startswith("SVE"):
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def matmul_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype in which to multiply tensors of `dtype` on `device`.

    float32 for bfloat16 and float16 on a CPU that would emulate them, else `dtype` itself.
    """
    if device_kind(device) != "cpu" or dtype not in (torch.bfloat16, torch.float16):
        return dtype
    if dtype == torch.bfloat16 and bf16_matmul_is_fast():
        return dtype
    return torch.float32


def wide_mm(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Product of two matrices of one dtype, in at least float32 and accumulated in it.

    CUDA multiplies 16-bit tensors into a float32 result directly; a CPU casts the result.
    """
    if left.dtype in (torch.bfloat16, torch.float16):
        if device_kind(left.device) == "cuda":
            return torch.mm(left, right, out_dtype=torch.float32)
        return (left @ right).float()
    return left @ right
