"""Replace norms, gated products and frozen layers of a model by forms that keep less for backward.

Only classes whose arithmetic is known are replaced, on the instance, by modules with the same
parameters under the same names: files, adapters and quantisation see no difference.
"""

from collections import Counter

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from luthier.kernels.cpu import matmul_dtype
from luthier.kernels.frozen_linear import frozen_linear
from luthier.kernels.planned import device_kind
from luthier.kernels.pointwise import geglu, rms_norm, swiglu
from luthier.kernels.triton.present import installed

# weight * normed, rounded to 16 bits before the product.
_NORMS = {
    "LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "Qwen2MoeRMSNorm", "Qwen3MoeRMSNorm", "MistralRMSNorm",
    "MixtralRMSNorm", "Phi3RMSNorm", "GraniteRMSNorm", "SmolLM3RMSNorm",
}  # fmt: skip
# (1 + weight) * normed, rounded after it.
_OFFSET_NORMS = {"Gemma2RMSNorm", "Gemma3RMSNorm"}
# down(act(gate(x)) * up(x))
_MLPS = {
    "LlamaMLP", "Qwen2MLP", "Qwen3MLP", "Qwen2MoeMLP", "Qwen3MoeMLP", "MistralMLP", "Gemma2MLP", "Gemma3MLP",
    "GraniteMLP", "SmolLM3MLP", "Olmo2MLP",
}  # fmt: skip
_JOINED_MLPS = {"Phi3MLP"}  # gate and up in one matrix, gate first
_ACTIVATIONS = {"silu": swiglu, "swish": swiglu, "gelu_pytorch_tanh": geglu}


class FusedNorm(nn.Module):
    """RMS norm that keeps its input and one number a row."""

    def __init__(self, weight: nn.Parameter, eps: float, offset: float) -> None:
        super().__init__()
        self.weight, self.eps, self.offset = weight, eps, offset

    def forward(self, x: Tensor) -> Tensor:
        """Any leading shape; the dtype of x."""
        return rms_norm(x, self.weight, self.eps, offset=self.offset)


class FusedGate(nn.Module):
    """The feed-forward block with its gated product in one function."""

    def __init__(self, block: nn.Module, activation: str) -> None:
        super().__init__()
        layers = {n: layer for n, layer in block.named_children() if n.endswith("_proj")}
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.activation, self.joined = activation, "gate_up_proj" in layers

    def forward(self, x: Tensor) -> Tensor:
        """Any leading shape; the dtype of x."""
        if self.joined:
            gate, up = self._run("gate_up_proj", x).chunk(2, dim=-1)
        else:
            gate, up = self._run("gate_proj", x), self._run("up_proj", x)
        return self._run("down_proj", _ACTIVATIONS[self.activation](gate, up))

    def _run(self, name: str, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(name)(x)
        return y


class FrozenLinear(nn.Linear):
    """A linear layer of a base in 16 bits on a processor that emulates them."""

    @classmethod
    def taking(cls, layer: nn.Linear) -> "FrozenLinear":
        """The same parameters in a layer of this kind."""
        new = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        new.weight, new.bias = layer.weight, layer.bias
        return new

    def forward(self, input: Tensor) -> Tensor:
        """x @ weight.T + bias; a weight that is trained after all goes the ordinary way."""
        if self.weight.requires_grad or (self.bias is not None and self.bias.requires_grad):
            return super().forward(input)
        return frozen_linear(input, self.weight, self.bias)


def fuse(model: PreTrainedModel) -> list[str]:
    """Replace what is known to be the same; before or after adapters are attached.

    Returns:
        One sentence on what was replaced, or nothing.
    """
    counts: Counter[str] = Counter()
    activation = _activation(model)
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        kind = type(module).__name__
        if kind in _NORMS | _OFFSET_NORMS:
            model.set_submodule(name, _fused_norm(module, 1.0 if kind in _OFFSET_NORMS else 0.0))
            counts["norms"] += 1
        elif kind in _MLPS | _JOINED_MLPS and activation is not None:
            model.set_submodule(name, FusedGate(module, activation))
            counts["gated products"] += 1
        elif type(module) is nn.Linear and module is not head and _emulated(module.weight):
            model.set_submodule(name, FrozenLinear.taking(module))
            counts["frozen layers"] += 1
    if not counts:
        return []
    parts = [f"{count} {what}" for what, count in counts.items()]
    report = [f"fused: {', '.join(parts)}"]
    if device_kind(model.device) == "cuda" and not installed():
        report.append(
            "Triton is not installed: norms and gated products take several kernels each "
            "(pip install triton)"
        )
    return report


def _fused_norm(module: nn.Module, offset: float) -> FusedNorm:
    eps = getattr(module, "variance_epsilon", None) or module.eps
    assert isinstance(eps, float), "an RMS norm has its epsilon"
    assert isinstance(module.weight, nn.Parameter), "an RMS norm has a weight"
    return FusedNorm(module.weight, eps, offset)


def _activation(model: PreTrainedModel) -> str | None:
    text = model.config.get_text_config()
    name = getattr(text, "hidden_activation", None) or getattr(text, "hidden_act", None)
    return name if name in _ACTIVATIONS else None


def _emulated(weight: Tensor) -> bool:
    """Whether this processor multiplies the weight's dtype slower than float32."""
    return weight.dtype in (torch.bfloat16, torch.float16) and (
        matmul_dtype(weight.dtype, weight.device) != weight.dtype
    )
