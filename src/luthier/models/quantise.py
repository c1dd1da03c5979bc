"""Linear layers whose weight is held in 4 or 8 bits, and given back in 16 or 32 when needed.

The number formats and the kernels are those of bitsandbytes: NF4 and FP4 in blocks of 64 with one
scale a block (optionally quantised once more), int8 with one scale an output row.  The weight is
always held as (output, input), that of a Conv1D turned over, so that a row is an output.

Source: Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 3;
Dettmers et al. 2022, https://arxiv.org/abs/2208.07339, section 2.
"""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn

from luthier.errors import QuantisationError
from luthier.kernels.bnb import bitsandbytes
from luthier.kernels.finite import is_finite
from luthier.kernels.frozen_linear import frozen_linear

BLOCK = 64  # values that share a scale
SCALE_BLOCK = 256  # scales that share a scale, with double quantisation


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How the frozen base is held.

    Args:
        bits: 4 or 8.
        kind: `nf4` or `fp4` for 4 bits, `int8` for 8.
        double: Quantise the scales too (4 bits only): 0.37 bits a value less.
    """

    bits: Literal[4, 8] = 4
    kind: Literal["nf4", "fp4", "int8"] = "nf4"
    double: bool = False

    def __post_init__(self) -> None:
        if (self.bits == 8) != (self.kind == "int8") or (self.double and self.bits == 8):
            raise QuantisationError(
                f"{self.bits} bits of kind {self.kind}{', double' if self.double else ''} do not exist",
                why="4 bits are nf4 or fp4, with or without double quantisation; 8 bits are int8",
                fix="--load_in_4bit true --bnb_4bit_quant_type nf4",
            )


class QuantisedLinear(nn.Module):
    """A frozen linear layer with a quantised weight.

    `weight` is not there on purpose: whoever needs it says in which dtype, `dequantised(dtype)`.
    The result is a function of the held bits alone, so keeping it (`keep_dequantised`) changes
    speed and memory and not one bit of any output.
    """

    codes: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        quantisation: Quantisation,
        *,
        compute_dtype: torch.dtype,
        conv1d: bool = False,
        name: str = "weight",
    ) -> None:
        """Quantise a weight.

        Args:
            weight: (output, input), or (input, output) for a Conv1D; float32, bfloat16 or float16.
            bias: (output,) or None; kept as it is.
            compute_dtype: Default dtype of `dequantised`, and of the products in `forward`.
            conv1d: Whether this replaces a transposed layer (GPT-2).
            name: What errors call the layer.

        Raises:
            QuantisationError: A value is not finite, or too large for the format.
        """
        super().__init__()
        weight_OI = weight.t().contiguous() if conv1d else weight.contiguous()
        self.out_features, self.in_features = weight_OI.shape
        self.quantisation, self.compute_dtype, self.conv1d = quantisation, compute_dtype, conv1d
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        pack = _pack_int8 if quantisation.bits == 8 else _pack_4bit
        packed = pack(weight_OI, quantisation)
        for key, value in packed.items():
            if not is_finite(value):
                raise QuantisationError(
                    f"{name} cannot be held in {quantisation.bits} bits",
                    why="it has values that are not finite in float16",
                    fix="--load_in_8bit false --load_in_4bit false",
                )
            self.register_buffer(key, value)
        self._kept: Tensor | None = None
        self._keep = False

    @property
    def num_bytes(self) -> int:
        """Bytes the weight takes in memory, scales included, kept copies not."""
        return sum(buffer.nbytes for buffer in self.buffers())

    @property
    def device(self) -> torch.device:
        """Where the held bits are."""
        return self.codes.device

    def keep_dequantised(self, keep: bool = True) -> Self:
        """Keep the dequantised weight after first use, where memory is free."""
        self._keep, self._kept = keep, None
        return self

    @torch.no_grad()
    def dequantised(self, dtype: torch.dtype | None = None) -> Tensor:
        """The weight as numbers: (output, input), in `dtype` or else the compute dtype."""
        dtype = dtype or self.compute_dtype
        if (
            self._kept is not None
            and self._kept.dtype == dtype
            and self._kept.device == self.device
        ):
            return self._kept
        weight_OI = self._unpack(dtype)
        if self._keep:
            self._kept = weight_OI
        return weight_OI

    def forward(self, x: Tensor) -> Tensor:
        """x @ weight.T + bias, in the dtype of x."""
        return frozen_linear(x, self, self.bias)

    def extra_repr(self) -> str:
        """What `print(model)` says of this layer."""
        kind = self.quantisation.kind + (" double" if self.quantisation.double else "")
        return f"in_features={self.in_features}, out_features={self.out_features}, {kind}"

    def _unpack(self, dtype: torch.dtype) -> Tensor:
        functional = bitsandbytes().functional
        if self.quantisation.bits == 8:
            wide_OI: Tensor = functional.int8_vectorwise_dequant(self.codes, self.scales)
            return wide_OI.to(dtype)
        scales = self.scales
        if self.quantisation.double:
            second = functional.QuantState(
                absmax=self.get_buffer("scale_scales"),
                code=self.get_buffer("scale_code"),
                blocksize=SCALE_BLOCK,
                dtype=torch.float32,
            )
            scales = functional.dequantize_blockwise(scales, second) + self.get_buffer("scale_mean")
        state = functional.QuantState(
            absmax=scales,
            shape=torch.Size((self.out_features, self.in_features)),
            dtype=dtype,
            blocksize=BLOCK,
            quant_type=self.quantisation.kind,
        )
        weight_OI: Tensor = functional.dequantize_4bit(self.codes, state)
        return weight_OI.reshape(self.out_features, self.in_features)


def _pack_4bit(weight_OI: Tensor, quantisation: Quantisation) -> dict[str, Tensor]:
    codes, state = bitsandbytes().functional.quantize_4bit(
        weight_OI,
        blocksize=BLOCK,
        compress_statistics=quantisation.double,
        quant_type=quantisation.kind,
    )
    packed = {"codes": codes, "scales": state.absmax}
    if quantisation.double:
        packed["scale_mean"] = state.offset
        packed["scale_scales"], packed["scale_code"] = state.state2.absmax, state.state2.code
    return packed


def _pack_int8(weight_OI: Tensor, quantisation: Quantisation) -> dict[str, Tensor]:
    # The kernel wants float16 on CUDA; the cast is made everywhere, so that devices agree.
    codes, scales, _ = bitsandbytes().functional.int8_vectorwise_quant(weight_OI.half())
    # A row of zeros has no scale: 0 * 127 / 0 is not a number and its code is undefined.
    return {"codes": codes.masked_fill((scales == 0)[:, None], 0), "scales": scales}
