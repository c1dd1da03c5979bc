"""What an RMS norm does on the GPU: one program a row, which is read once and written once.

Sums are in float32 whatever the tensors hold.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

import triton
import triton.language as tl


@triton.jit
def norm_forward(x, weight, y, rstd, width, eps, offset, AFTER: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    value = tl.load(x + row * width + column, inside, 0.0).to(tl.float32)
    factor = tl.load(weight + column, inside, 0.0).to(tl.float32)
    one = tl.rsqrt(tl.sum(value * value, 0) / width + eps)
    normed = value * one
    if AFTER:
        normed = normed * (offset + factor)
    else:
        # Rounded before the weight is applied, as the families without an offset do it.
        normed = normed.to(y.dtype.element_ty).to(tl.float32) * factor
    tl.store(y + row * width + column, normed.to(y.dtype.element_ty), inside)
    tl.store(rstd + row, one)


@triton.jit
def norm_backward(grad, x, weight, rstd, grad_x, width, offset, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    value = tl.load(x + row * width + column, inside, 0.0).to(tl.float32)
    factor = tl.load(weight + column, inside, 0.0).to(tl.float32) + offset
    inner = tl.load(grad + row * width + column, inside, 0.0).to(tl.float32) * factor
    one = tl.load(rstd + row)
    along = tl.sum(inner * value, 0) * one * one / width
    result = (inner - value * along) * one
    tl.store(grad_x + row * width + column, result.to(grad_x.dtype.element_ty), inside)
