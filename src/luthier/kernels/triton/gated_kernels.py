"""What a gated product does on the GPU, element by element.

Arithmetic is in float32 whatever the tensors hold.  Backward computes the activation again: what it
would read instead is as large as the gate.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def,no-untyped-call"

import triton
import triton.language as tl


@triton.jit
def gated_forward(gate, up, y, count, SILU: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    g = tl.load(gate + at, inside, 0.0).to(tl.float32)
    u = tl.load(up + at, inside, 0.0).to(tl.float32)
    if SILU:
        active = g * tl.sigmoid(g)
    else:
        # (1 + tanh(z)) / 2 is the sigmoid of 2 z, which overflows on neither side.
        active = g * tl.sigmoid(1.5957691216057308 * (g + 0.044715 * g * g * g))
    # Rounded before the product, as the families do it.
    active = active.to(y.dtype.element_ty).to(tl.float32)
    tl.store(y + at, (active * u).to(y.dtype.element_ty), inside)


@triton.jit
def gated_backward(
    grad, gate, up, grad_gate, grad_up, count, SILU: tl.constexpr, BLOCK: tl.constexpr
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    d = tl.load(grad + at, inside, 0.0).to(tl.float32)
    g = tl.load(gate + at, inside, 0.0).to(tl.float32)
    u = tl.load(up + at, inside, 0.0).to(tl.float32)
    if SILU:
        share = tl.sigmoid(g)
        active = g * share
        slope = share * (1.0 + g * (1.0 - share))
    else:
        share = tl.sigmoid(1.5957691216057308 * (g + 0.044715 * g * g * g))
        active = g * share
        steep = 1.5957691216057308 * (1.0 + 0.134145 * g * g)
        slope = share + active * (1.0 - share) * steep
    tl.store(grad_gate + at, (d * u * slope).to(grad_gate.dtype.element_ty), inside)
    tl.store(grad_up + at, (d * active).to(grad_up.dtype.element_ty), inside)
