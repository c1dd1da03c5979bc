"""What the allocator and the operators of a target device take beside the tensors that code sees.

CPU: torch's CPU allocator gives out what is asked for, byte by byte, and its profiler records that.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Op = Any

# bitsandbytes' operators whose CPU form is Python over torch; the others are C and keep no scratch.
_PYTHON_ON_CPU = {
    "bitsandbytes::quantize_4bit",
    "bitsandbytes::int8_vectorwise_quant",
    "bitsandbytes::int8_vectorwise_dequant",
    "bitsandbytes::optimizer_update_32bit",
    "bitsandbytes::optimizer_update_8bit_blockwise",
}


class CpuTarget:
    """The CPU of this machine, as `torch.profiler` records it."""

    def block_bytes(self, size: int) -> int:
        """As asked for."""
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
        """bitsandbytes' Python kernels run as they are, on fake tensors."""
        if op.name() not in _PYTHON_ON_CPU:
            return None
        return lambda *args, **kwargs: op._op_dk(torch._C.DispatchKey.CPU, *args, **kwargs)


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
