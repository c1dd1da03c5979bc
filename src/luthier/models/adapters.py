"""Low-rank adapters on the layers of a model, and modules trained whole beside them.

R: rank.  I: inputs.  O: outputs.  Layers are replaced on the instance; nothing of transformers
is changed.  Adapter weights are float32 whatever the model is held in, and start as PEFT's do
(A: Kaiming uniform with a = sqrt 5, B: zero), each from a generator of its own name, so that the
start of one layer does not depend on which others are adapted.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from luthier.errors import AdapterError, TargetError
from luthier.models.lora_layer import LoraLayer, LoraShared, Switch, TrainedModule
from luthier.models.targets import choose_targets, is_pattern, saved_targets

PREFIX = "base_model.model."  # of every tensor in a PEFT file


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
        untouched = not self.shared.principal and all(
            not layer.lora_B.detach().any() for layer in self.layers.values()
        )
        return untouched and not any(module.is_changed for module in self.modules.values())

    def named_trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trained weights under the names they have in the file."""
        for name, layer in self.layers.items():
            for end, weight in layer.named():
                yield f"{PREFIX}{name}.{end}", weight
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
    dora: bool = False,
    principal: bool = False,
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
        dora: Rows of the adapted weight get magnitudes of their own, which are trained: Liu et al.
            2024, https://arxiv.org/abs/2402.09353, eq. 5.
        principal: Begin at the principal directions of each weight, which is left with the rest:
            PiSSA, see `variants.principal`.  Of layers that are not quantised.

    Raises:
        TargetError: A name fits nothing that can be adapted.
    """
    names = choose_targets(model, targets)
    adapters = Adapters(
        model,
        rank=rank,
        alpha=alpha,
        shared=LoraShared(dropout, rank_stabilised, dora, principal),
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
