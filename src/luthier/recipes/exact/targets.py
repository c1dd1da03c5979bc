"""What the allocator and the operators of a target device take beside the tensors that code sees.

CPU: torch's CPU allocator gives out what is asked for, byte by byte, and its profiler records that.
"""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from luthier.units import MIB

Op = Any


def _quantize_4bit(
    weight: Tensor, blocksize: int, quant_type: str, quant_storage: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The tensors of bitsandbytes' kernel for the CPU (0.50, backends/default/ops.py)."""
    bounds = torch.empty(15, dtype=torch.float32)
    flat = weight.reshape(-1).float()
    full = flat.numel() - flat.numel() % blocksize
    blocks = flat[:full].reshape(-1, blocksize)
    absmax = blocks.abs().max(dim=-1)[0]
    scaled = torch.clamp(blocks * (1.0 / absmax.clamp(min=1e-38).view(-1, 1)), -1, 1).reshape(-1)
    if full < flat.numel():
        last = flat[full:].abs().max().clamp(min=1e-38)
        absmax = torch.cat([absmax, last.unsqueeze(0)])
        scaled = torch.cat([scaled, torch.clamp(flat[full:] / last, -1, 1)])
    if scaled.numel() % 2:
        scaled = torch.nn.functional.pad(scaled, (0, 1))
    code = torch.bucketize(scaled, bounds, out_int32=True)
    if quant_type != "nf4":
        code = torch.empty(code.shape, dtype=torch.int64)
    short = code.to(torch.uint8)
    return ((short[::2] << 4) | short[1::2]).unsqueeze(1), absmax


def _int8_vectorwise_quant(
    weight: Tensor, threshold: float = 0.0
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Likewise."""
    scales = torch.max(weight.abs(), dim=1).values.float()
    codes = torch.round(weight * (127.0 / scales.unsqueeze(-1))).to(torch.int8)
    return codes, scales, None


def _int8_vectorwise_dequant(codes: Tensor, scales: Tensor) -> Tensor:
    """Likewise."""
    return codes * scales.view(-1, 1) * 7.874015718698502e-3


def _cpu_optimiser(name: str) -> Callable[..., Any]:
    """bitsandbytes' own Python kernel; its innermost operators have fake forms."""

    def update(*args: Any, **kwargs: Any) -> None:
        kernels = importlib.import_module("bitsandbytes.backends.cpu.ops")
        getattr(kernels, name)(*args, **kwargs)

    return update


def _grouped_mm(
    left: Tensor,
    right: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Tensor:
    """The result of the products of experts; torch's fake form knows bfloat16 alone."""
    rows, columns = left.shape[-2], right.shape[-1]
    shape: tuple[int, ...] = (rows, columns)
    if left.dim() == right.dim():
        assert left.dim() == 3 or offs is not None, "two matrices are grouped by offsets"
        groups = len(left) if left.dim() == 3 or offs is None else len(offs)
        shape = (groups, rows, columns)
    return left.new_empty(shape, dtype=out_dtype or left.dtype)


_PYTHON_ON_CPU: dict[str, Callable[..., Any]] = {
    "aten::_grouped_mm": _grouped_mm,
    "bitsandbytes::quantize_4bit": _quantize_4bit,
    "bitsandbytes::int8_vectorwise_quant": _int8_vectorwise_quant,
    "bitsandbytes::int8_vectorwise_dequant": _int8_vectorwise_dequant,
    "bitsandbytes::optimizer_update_32bit": _cpu_optimiser("_optimizer_update_32bit_cpu"),
    "bitsandbytes::optimizer_update_8bit_blockwise": _cpu_optimiser(
        "_optimizer_update_8bit_blockwise_cpu"
    ),
}
"""Operators of bitsandbytes that are Python over torch on a CPU (the others are C without scratch),
and what torch has no fake form of."""


class CpuTarget:
    """The CPU of this machine, as `torch.profiler` records it."""

    copies_files = False
    held_bytes = 0

    def block_bytes(self, size: int) -> int:
        """As asked for."""
        return size

    def mapped_bytes(self, size: int) -> int:
        """All of it: the profiler counts mapped files, although their pages can be given back."""
        return size

    def workspace(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
        """Scratch of torch's CPU kernels."""
        name = op.name()
        if name in _SCRATCH:
            return _SCRATCH[name](args, out)
        if torch.Tag.pointwise in op.tags:
            return _casts(args, out)
        return 0

    def expand(self, op: Op) -> Callable[..., Any] | None:
        """bitsandbytes' Python kernels, on fake tensors."""
        return _PYTHON_ON_CPU.get(op.name())


class CudaTarget:
    """A CUDA device that need not be here: `torch.cuda.max_memory_allocated`.

    What the allocator leaves unused behind large blocks (up to 1 MiB each) is not counted.

    Args:
        capability: Compute capability.

    Sources: torch 2.13, c10/cuda/CUDACachingAllocator (blocks of 512 bytes) and
    aten/src/ATen/cuda/CublasHandlePool.cpp (workspace); FlashAttention 2, csrc/flash_attn/
    flash_api.cpp, mha_varlen_bwd (float32 sums of the queries' gradient, grouped heads expanded).
    """

    copies_files = True

    def __init__(self, capability: tuple[int, int]) -> None:
        self.held_bytes = 32 * MIB if capability[0] >= 9 else 8 * MIB + 128 * 1024
        """cuBLAS takes it at its first product and keeps it."""

    def block_bytes(self, size: int) -> int:
        """A multiple of 512."""
        return -(-size // 512) * 512

    def mapped_bytes(self, size: int) -> int:
        """Files are mapped into the host's memory."""
        return 0

    def workspace(self, op: Op, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
        """Scratch of the backward of attention."""
        if op.name() == "aten::_flash_attention_backward":
            return _flash_backward(args[1], args[2], sequences=len(args[6]) - 1)
        return 0

    def expand(self, op: Op) -> Callable[..., Any] | None:
        """Operators whose CUDA form is Python over torch, or which fake CPU tensors lack."""
        return _ON_CUDA.get(op.name())


def _flash_backward(query: Tensor, key: Tensor, *, sequences: int) -> int:
    """Query and key are (rows, heads, width)."""
    rows, heads, width = query.shape
    padded = rows + 128 * sequences
    rounded = -(-width // 32) * 32
    sums = 4 * heads * padded * (rounded + 1)
    grouped = key.shape[1] != heads
    return sums + (2 * len(key) * heads * width * key.itemsize if grouped else 0)


def _mm_into(left: Tensor, right: Tensor, out_dtype: torch.dtype) -> Tensor:
    return left.new_empty((left.shape[0], right.shape[1]), dtype=out_dtype)


_ON_CUDA: dict[str, Callable[..., Any]] = {
    "aten::mm.dtype": _mm_into,
    "aten::_grouped_mm": _grouped_mm,
    "bitsandbytes::int8_vectorwise_dequant": _int8_vectorwise_dequant,
}


def _casts(args: tuple[Any, ...], out: Any) -> int:
    """A pointwise CPU kernel first casts operands of another dtype than the common one."""
    if not isinstance(out, Tensor):
        return 0
    tensors = [a for a in args if isinstance(a, Tensor)]
    if len({t.dtype for t in tensors}) < 2:
        return 0
    common = torch.result_type(*tensors[:2]) if len(tensors) >= 2 else out.dtype
    return sum(t.numel() * common.itemsize for t in tensors if t.dtype != common)


_SCRATCH: dict[str, Callable[[tuple[Any, ...], Any], int]] = {}
