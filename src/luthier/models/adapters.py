"""Low-rank adapters on the layers of a model, and modules trained whole beside them.

R: rank.  I: inputs.  O: outputs.  Layers are replaced on the instance; nothing of transformers
is changed.  Adapter weights are float32 whatever the model is held in, and start as PEFT's do
(A: Kaiming uniform with a = sqrt 5, B: zero), each from a generator of its own name, so that the
start of one layer does not depend on which others are adapted.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from luthier.errors import AdapterError, TargetError
from luthier.kernels.dropout import TokenKeys, module_number
from luthier.kernels.lora_linear import lora_linear, lora_scale
from luthier.models.quantise import QuantisedLinear
from luthier.models.targets import choose_targets, is_pattern, saved_targets

PREFIX = "base_model.model."  # of every tensor in a PEFT file


class Switch:
    """What all adapted layers of one model share: on or off, and the tokens dropout depends on."""

    def __init__(self) -> None:
        self.enabled = True
        self.dropping = False  # only while a step is trained
        self.keys = TokenKeys()


class LoraLayer(nn.Module):
    """A frozen linear layer with its adapter.  `base` is the layer it took the place of."""

    def __init__(
        self, base: nn.Module, *, name: str, rank: int, alpha: float, shared: "LoraShared"
    ) -> None:
        super().__init__()
        outputs, inputs, device = _size(base)
        self.base, self.name, self.rank, self.alpha = base, name, rank, alpha
        self.scale = lora_scale(alpha, rank, rank_stabilised=shared.rank_stabilised)
        self.shared, self.number = shared, module_number(name)
        self.lora_A = nn.Parameter(torch.zeros(rank, inputs, device=device))
        self.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=device))

    def start(self, seed: int) -> None:
        """Set A to its random start, B to zero."""
        digest = hashlib.sha256(f"{seed} {self.name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        bound = 1 / math.sqrt(self.lora_A.shape[1])  # Kaiming uniform with a = sqrt 5
        start = torch.empty(self.lora_A.shape).uniform_(-bound, bound, generator=generator)
        with torch.no_grad():
            self.lora_A.copy_(start)
            self.lora_B.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output, with the adapter's unless it is switched off."""
        switch = self.shared.switch
        if not switch.enabled:
            y: Tensor = self.base(x)
            return y
        quantised = isinstance(self.base, QuantisedLinear)
        return lora_linear(
            x,
            self.base if quantised else self.base.weight,  # type: ignore[arg-type]
            self.base.bias,  # type: ignore[arg-type]
            self.lora_A,
            self.lora_B,
            self.scale,
            transposed=isinstance(self.base, Conv1D),
            dropout=self.shared.dropout if switch.dropping and self.training else 0.0,
            keys=switch.keys,
            module=self.number,
        )

    def delta(self) -> Tensor:
        """What the adapter adds to the weight, float32, (output, input)."""
        return self.scale * (self.lora_B.detach().float() @ self.lora_A.detach().float())

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

    def __init__(self, base: nn.Module, *, name: str, shared: "LoraShared") -> None:
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


@dataclass
class LoraShared:
    """What is the same for all layers of one adapter."""

    dropout: float = 0.0
    rank_stabilised: bool = False
    switch: Switch = field(default_factory=Switch)


class Adapters:
    """The adapter of a model: its layers, what is trained, and how it is saved and merged."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        rank: int,
        alpha: float,
        shared: LoraShared,
        targets: str | list[str],
    ) -> None:
        self.model, self.rank, self.alpha, self.shared, self.targets = (
            model,
            rank,
            alpha,
            shared,
            targets,
        )
        self.layers: dict[str, LoraLayer] = {}
        self.modules: dict[str, TrainedModule] = {}
        self.is_merged = False

    @property
    def switch(self) -> Switch:
        """On or off, and the tokens of the step being trained."""
        return self.shared.switch

    @property
    def is_fresh(self) -> bool:
        """Whether the adapter changes nothing yet: every B is zero and no module differs."""
        untouched = all(not layer.lora_B.detach().any() for layer in self.layers.values())
        return untouched and not any(module.is_changed for module in self.modules.values())

    def named_trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trained weights under the names they have in the file."""
        for name, layer in self.layers.items():
            yield f"{PREFIX}{name}.lora_A.weight", layer.lora_A
            yield f"{PREFIX}{name}.lora_B.weight", layer.lora_B
        for name, module in self.modules.items():
            for leaf, weight in module.trained.items():
                yield f"{PREFIX}{name}.{leaf}", weight

    def state(self) -> dict[str, Tensor]:
        """The trained weights, detached, under the names of `named_trained`."""
        return {name: weight.detach() for name, weight in self.named_trained()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights that `state` gave; raises AdapterError unless they are exactly these."""
        mine = dict(self.named_trained())
        wrong = sorted(set(mine) ^ set(state))
        wrong += [name for name in mine if name in state and mine[name].shape != state[name].shape]
        if wrong:
            raise AdapterError(
                f"the saved weights are not those of this adapter: {', '.join(wrong[:3])}",
                why=f"{len(wrong)} names or shapes differ",
                fix="resume with the settings the run was begun with",
            )
        with torch.no_grad():
            for name, weight in mine.items():
                weight.copy_(state[name])

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within, the model answers as the base does."""
        before, self.switch.enabled = self.switch.enabled, False
        try:
            yield
        finally:
            self.switch.enabled = before

    def merge(self) -> int:
        """Add the adapter to the base, in place: afterwards the model has plain layers.

        Quantised layers become plain ones in their compute dtype, since the adapter was trained on
        the dequantised weight.  An embedding or head that was trained whole takes its place, and
        the two are no longer tied.

        Returns:
            The number of layers and modules merged.

        Raises:
            AdapterError: It has been merged before.
        """
        if self.is_merged:
            raise AdapterError(
                "this adapter has been merged already",
                why="adding it twice would apply it at double strength",
                fix="load the base and the adapter again",
            )
        self.is_merged = True
        for name, layer in self.layers.items():
            self.model.set_submodule(name, layer.merged())
        for name, module in self.modules.items():
            self.model.set_submodule(name, module.merged())
        if self.modules:
            self.model.config.tie_word_embeddings = False
            self.model.config.get_text_config().tie_word_embeddings = False
        return len(self.layers) + len(self.modules)

    def start(self, seed: int) -> None:
        """Set every layer to its random start."""
        for layer in self.layers.values():
            layer.start(seed)

    def put_layer(self, name: str, *, rank: int, alpha: float) -> None:
        """Replace a layer of the model by its adapted form."""
        base = self.model.get_submodule(name)
        layer = LoraLayer(base, name=name, rank=rank, alpha=alpha, shared=self.shared)
        self.layers[name] = layer
        self.model.set_submodule(name, layer)

    def put_module(self, name: str) -> None:
        """Replace a module of the model by one that is trained whole."""
        module = TrainedModule(self.model.get_submodule(name), name=name, shared=self.shared)
        self.modules[name] = module
        self.model.set_submodule(name, module)


def attach(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    targets: str | Sequence[str],
    modules_to_save: Sequence[str] = (),
    seed: int,
    rank_stabilised: bool = False,
) -> Adapters:
    """Give a model a fresh adapter; the base is frozen and its outputs do not change yet.

    Args:
        model: From `load_base`, without an adapter.
        rank: R, at least 1.
        alpha: The adapter's output is scaled by alpha / R, or alpha / sqrt R if rank-stabilised.
        dropout: Share of an adapter's inputs dropped while training.
        targets: See `choose_targets`.
        modules_to_save: Embedding or head to train whole, by suffix: `embed_tokens`, `lm_head`.
        seed: Of the random start.

    Raises:
        TargetError: A name fits nothing that can be adapted.
    """
    names = choose_targets(model, targets)
    adapters = Adapters(
        model,
        rank=rank,
        alpha=alpha,
        shared=LoraShared(dropout, rank_stabilised),
        targets=targets if is_pattern(targets) else saved_targets(model, names),
    )
    whole = [_module_name(model, name) for name in modules_to_save]
    model.requires_grad_(False)
    for name in names:
        adapters.put_layer(name, rank=rank, alpha=alpha)
    for name in dict.fromkeys(whole):
        adapters.put_module(name)
    adapters.start(seed)
    return adapters


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


def _module_name(model: PreTrainedModel, suffix: str) -> str:
    whole = {id(m) for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    names = {name: module for name, module in model.named_modules() if id(module) in whole}
    for name in map(str, names):
        if name == suffix or name.endswith("." + suffix):
            return name
    raise TargetError(
        f"modules_to_save {suffix} is not the embedding or the head of this model",
        why="only these are trained whole beside an adapter",
        fix=f"choose from: {', '.join(name.rsplit('.', 1)[-1] for name in names)}",
    )


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
