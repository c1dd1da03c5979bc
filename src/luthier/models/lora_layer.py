"""A linear layer with its adapter, and an embedding or head that is trained whole.

R: rank.  I: inputs.  O: outputs.  Each takes the place of the module it is made of, on the
instance; its own weights are float32 whatever the model is held in.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from luthier.kernels.dropout import TokenKeys, module_number
from luthier.kernels.lora_linear import lora_linear, lora_scale
from luthier.models.quantise import QuantisedLinear
from luthier.models.variants import principal, row_norms


class Switch:
    """What all adapted layers of one model share: on or off, and the tokens dropout depends on."""

    def __init__(self) -> None:
        self.enabled = True
        self.dropping = False  # only while a step is trained
        self.keys = TokenKeys()


@dataclass
class LoraShared:
    """What is the same for all layers of one adapter."""

    dropout: float = 0.0
    rank_stabilised: bool = False
    dora: bool = False  # rows of the sum are scaled to magnitudes of their own
    principal: bool = False  # begins at the base's principal directions
    switch: Switch = field(default_factory=Switch)


class LoraLayer(nn.Module):
    """A frozen linear layer with its adapter.  `base` is the layer it took the place of."""

    def __init__(
        self, base: nn.Module, *, name: str, rank: int, alpha: float, shared: LoraShared
    ) -> None:
        super().__init__()
        outputs, inputs, device = _size(base)
        self.base, self.name, self.rank, self.alpha = base, name, rank, alpha
        self.scale = lora_scale(alpha, rank, rank_stabilised=shared.rank_stabilised)
        self.shared, self.number = shared, module_number(name)
        self.lora_A = nn.Parameter(torch.zeros(rank, inputs, device=device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=device))
        self.magnitude = nn.Parameter(torch.ones(outputs, device=device)) if shared.dora else None
        self.taken: tuple[Tensor, Tensor] | None = None
        """A and B that were taken out of the base at the start, as PiSSA does."""

    @torch.no_grad()
    def start(self, seed: int) -> None:
        """Set A to its random start, B to zero; or both to the base's principal directions, which
        are then taken out of it, so that the output stays what it was."""
        digest = hashlib.sha256(f"{seed} {self.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        if self.shared.principal:
            self._start_principal(generator)
            return
        bound = 1 / math.sqrt(self.lora_A.shape[1])  # Kaiming uniform with a = sqrt 5
        start = torch.empty(self.lora_A.shape).uniform_(-bound, bound, generator=generator)
        self.lora_A.copy_(start)
        self.lora_B.zero_()
        if self.magnitude is not None:
            self.magnitude.copy_(self._norms())

    def _start_principal(self, generator: torch.Generator) -> None:
        weight_OI = self._dense_base()
        lora_A, lora_B = principal(weight_OI, self.rank, generator)
        root = math.sqrt(self.scale)
        self.lora_A.copy_(lora_A / root)
        self.lora_B.copy_(lora_B / root)
        self.taken = (self.lora_A.detach().clone(), self.lora_B.detach().clone())
        rest = weight_OI.float() - self.scale * (self.lora_B @ self.lora_A)
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        weight.copy_(rest.t() if isinstance(self.base, Conv1D) else rest)

    def _dense_base(self) -> Tensor:
        """The base's weight, (output, input)."""
        base = self.base
        if isinstance(base, QuantisedLinear):
            return base.dequantised(base.compute_dtype)
        weight: Tensor = base.weight.detach()  # type: ignore[operator]
        return weight.t() if isinstance(base, Conv1D) else weight

    @torch.no_grad()
    def _norms(self) -> Tensor:
        return row_norms(self._dense_base(), self.lora_A, self.lora_B, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, with the adapter's unless it is switched off."""
        switch = self.shared.switch
        if not switch.enabled:
            y: Tensor = self.base(x)
            return y
        quantised = isinstance(self.base, QuantisedLinear)
        bias: Tensor | None = self.base.bias  # type: ignore[assignment]
        turned = lora_linear(
            x,
            self.base if quantised else self.base.weight,  # type: ignore[arg-type]
            None if self.magnitude is not None else bias,
            self.lora_A,
            self.lora_B,
            self.scale,
            transposed=isinstance(self.base, Conv1D),
            dropout=self.shared.dropout if switch.dropping and self.training else 0.0,
            keys=switch.keys,
            module=self.number,
        )
        if self.magnitude is None:
            return turned
        # Of the norm no gradient is taken: DoRA's paper, section 4.3, as PEFT does.
        scaled: Tensor = turned * (self.magnitude / self._norms()).to(turned.dtype)
        return scaled if bias is None else scaled + bias.to(scaled.dtype)

    @torch.no_grad()
    def delta(self) -> Tensor:
        """What the adapter adds to the weight, float32, (output, input)."""
        delta_OI = self.scale * (self.lora_B.float() @ self.lora_A.float())
        if self.magnitude is None:
            return delta_OI
        base_OI = self._dense_base().float()
        factor_O = self.magnitude / self._norms()
        return factor_O[:, None] * (base_OI + delta_OI) - base_OI

    def named(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trained weights under the ends of their names in the file."""
        yield "lora_A.weight", self.lora_A
        yield "lora_B.weight", self.lora_B
        if self.magnitude is not None:
            yield "lora_magnitude_vector", self.magnitude

    def merged(self) -> nn.Module:
        """A plain layer of the base's kind with the adapter added to its (dequantised) weight."""
        base, delta_OI = self.base, self.delta()
        if isinstance(base, QuantisedLinear):
            return plain_layer(base, delta_OI)
        weight: Tensor = base.weight.detach()  # type: ignore[operator]
        sum_ = weight.float() + (delta_OI.t() if isinstance(base, Conv1D) else delta_OI)
        base.weight = nn.Parameter(sum_.to(weight.dtype), requires_grad=False)
        return base


class TrainedModule(nn.Module):
    """An embedding or a head that is trained whole: the frozen one and float32 masters."""

    def __init__(self, base: nn.Module, *, name: str, shared: LoraShared) -> None:
        super().__init__()
        self.base, self.name, self.shared = base, name, shared
        self.trained = nn.ParameterDict(
            {leaf: value.detach().float().clone() for leaf, value in base.named_parameters()}
        )

    @property
    def weight(self) -> Tensor:
        """The weight in use: the trained one, or the base's where adapters are off."""
        weight: Tensor = self._in_use("weight")  # type: ignore[assignment]
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The bias in use, if there is one."""
        return self._in_use("bias")

    def _in_use(self, leaf: str) -> Tensor | None:
        if self.shared.switch.enabled and leaf in self.trained:
            trained: Tensor = self.trained[leaf]
            return trained
        value: Tensor | None = getattr(self.base, leaf, None)
        return value

    @property
    def is_changed(self) -> bool:
        """Whether training has moved a value."""
        own = dict(self.base.named_parameters())
        return any(
            not torch.equal(value.detach(), own[leaf].float())
            for leaf, value in self.trained.items()
        )

    def forward(self, x: Tensor) -> Tensor:
        """What the base computes, with the trained weights in its dtype."""
        if not self.shared.switch.enabled:
            y: Tensor = self.base(x)
            return y
        own = dict(self.base.named_parameters())
        cast = {leaf: value.to(own[leaf].dtype) for leaf, value in self.trained.items()}
        # The base's own forward: it may scale (Gemma), which a look-up alone would leave out.
        out: Tensor = functional_call(self.base, cast, (x,))
        return out

    def merged(self) -> nn.Module:
        """The base with the trained weights in its dtype, tied to nothing."""
        for leaf, own in list(self.base.named_parameters()):
            value = self.trained[leaf].detach().to(own.dtype)
            setattr(self.base, leaf, nn.Parameter(value, requires_grad=False))
        return self.base


def plain_layer(layer: QuantisedLinear, delta_OI: Tensor | None = None) -> nn.Module:
    """A plain linear layer (or Conv1D) with the dequantised weight, and with something added."""
    dtype = layer.compute_dtype
    weight_OI = layer.dequantised(dtype)
    if delta_OI is not None:
        weight_OI = (weight_OI.float() + delta_OI).to(dtype)
    with torch.device("meta"):
        plain: Any = (
            Conv1D(layer.out_features, layer.in_features)
            if layer.conv1d
            else nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        )
    weight = weight_OI.t().contiguous() if layer.conv1d else weight_OI
    plain.weight = nn.Parameter(weight, requires_grad=False)
    plain.bias = layer.bias
    return plain  # type: ignore[no-any-return]


def _size(base: nn.Module) -> tuple[int, int, torch.device]:
    if isinstance(base, QuantisedLinear):
        return base.out_features, base.in_features, base.device
    weight: Tensor = base.weight  # type: ignore[assignment]
    rows, columns = weight.shape
    return (
        (columns, rows, weight.device)
        if isinstance(base, Conv1D)
        else (rows, columns, weight.device)
    )
