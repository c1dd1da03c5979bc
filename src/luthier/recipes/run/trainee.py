"""The model of a run: its base, what of it is trained, and how a batch is scored."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from luthier.config.settings import Settings
from luthier.data.packing.pack import PackedBatch
from luthier.errors import ArchitectureError
from luthier.models.adapter_files import load_adapter
from luthier.models.adapters import Adapters, attach
from luthier.models.fuse import fuse
from luthier.models.load import load_base
from luthier.models.lora_layer import TrainedModule
from luthier.models.quantise import Quantisation, QuantisedLinear
from luthier.models.scorer import Scorer, Scores
from luthier.sources.source import ModelSource


@dataclass
class Trainee:
    """A loaded model that can be trained.

    Args:
        adapters: None when every weight is trained.
        packed: Whether several sequences share a row; otherwise they run one at a time.
        report: Sentences about what is not as the model's files say.
    """

    model: PreTrainedModel
    adapters: Adapters | None
    trained: dict[str, nn.Parameter]
    device: torch.device
    dtype: torch.dtype
    packed: bool
    report: list[str] = field(default_factory=list)
    noise_alpha: float = 0.0
    scorer: Scorer | None = None

    @property
    def max_sequences(self) -> int | None:
        """Sequences of a micro-batch; None: as many as fit."""
        return None if self.packed else 1

    @property
    def num_params(self) -> int:
        """Weights of the base; a tied embedding counts once."""
        own = {id(weight) for weight in self.trained.values()} if self.adapters else set()
        total: int = sum(w.numel() for w in self.model.parameters() if id(w) not in own)
        for module in self.model.modules():
            if isinstance(module, QuantisedLinear):
                total += module.in_features * module.out_features
        return total

    @property
    def num_trained(self) -> int:
        return sum(weight.numel() for weight in self.trained.values())

    @property
    def no_decay(self) -> set[str]:
        """Trained embeddings, which weight decay leaves alone."""
        embeddings = {id(weight) for weight in _embedding_weights(self.model)}
        return {name for name, weight in self.trained.items() if id(weight) in embeddings}

    def rates(self, ratio: float) -> dict[str, float]:
        """The factor on the learning rate of every B, where it is not 1.

        Source: Hayou et al. 2024 (LoRA+), https://arxiv.org/abs/2402.12354, section 4.
        """
        ends = () if ratio == 1 else ("lora_B.weight",)
        return {name: ratio for name in self.trained if name.endswith(ends)}

    def static_bytes(self) -> int:
        """Weights, quantised ones included, gradients and optimiser state (float32)."""
        held: int = sum(t.nbytes for t in [*self.model.parameters(), *self.model.buffers()])
        taken = [layer.taken for layer in (self.adapters.layers.values() if self.adapters else ())]
        held += sum(a.nbytes + b.nbytes for a, b in filter(None, taken))
        return held + 12 * self.num_trained

    def ready(self, *, checkpointing: str, seed: int) -> None:
        """Set how activations are kept and what dropout masks follow from; before scoring."""
        self.scorer = Scorer(
            self.model,
            device=self.device,
            packed=self.packed,
            adapters=self.adapters,
            checkpointing="full" if checkpointing == "full" else "none",
            noise_alpha=self.noise_alpha,
            seed=seed,
        )

    def score(self, batch: PackedBatch, *, step: int | None = None) -> Scores:
        """Log-probability of each target; with a step, as in training: dropout is on."""
        assert self.scorer is not None, "ready() comes first"
        return self.scorer(batch, step=step)


def make_trainee(
    settings: Settings, source: ModelSource, dtype: torch.dtype, device: torch.device
) -> Trainee:
    """Load the base, and attach a new adapter, the starting one, or none.

    Raises:
        ModelError: And its kinds.
    """
    report: list[str] = []
    model = load_base(
        source.base,
        dtype=dtype,
        quantisation=quantisation_of(settings),
        device=device,
        from_scratch_seed=settings.seed if settings.from_scratch else None,
        report=report,
    )
    return prepare_model(model, settings, source, dtype, device, report)


def prepare_model(
    model: PreTrainedModel,
    settings: Settings,
    source: ModelSource,
    dtype: torch.dtype,
    device: torch.device,
    report: list[str],
) -> Trainee:
    """Replace what can be fused, and attach what is trained to a loaded base."""
    report += fuse(model)
    family = source.family
    if not family.known:
        report.append(f"model_type {family.model_types} is not in the gallery: {family.reason}")
    adapters = None
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    if settings.method == "full":
        model.requires_grad_(True)
        trained = dict(model.named_parameters())
    elif source.adapter is not None:
        adapters = load_adapter(model, source.adapter, dropout=settings.lora_dropout)
        trained = dict(adapters.named_trained())
    else:
        adapters = attach(
            model,
            rank=settings.lora_dim,
            alpha=settings.lora_alpha or float(settings.lora_dim),
            dropout=settings.lora_dropout,
            targets=_targets(settings, source),
            modules_to_save=settings.modules_to_save,
            seed=settings.seed,
            rank_stabilised=settings.use_rslora,
            dora=settings.use_dora,
            principal=settings.init_lora_weights == "pissa",
        )
        trained = dict(adapters.named_trained())
    if tied and adapters is not None and adapters.modules:
        names = " and ".join(name.rsplit(".", 1)[-1] for name in adapters.modules)
        report.append(
            f"embeddings and head are one matrix in this model: training {names} by itself makes "
            "them two, in the merged model too"
        )
    noise = settings.neftune_noise_alpha
    return Trainee(model, adapters, trained, device, dtype, family.packable, report, noise)


def _embedding_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """What maps ids to vectors, whichever module holds it: itself, or a trained copy of it."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            yield from module.parameters(recurse=False)
        elif isinstance(module, TrainedModule) and isinstance(module.base, nn.Embedding):
            yield from module.trained.values()


def quantisation_of(settings: Settings | None) -> Quantisation | None:
    """How the settings hold the base; None for whole numbers, and without settings."""
    if settings is None:
        return None
    if settings.load_in_8bit:
        return Quantisation(8, "int8")
    if settings.load_in_4bit:
        double = settings.bnb_4bit_use_double_quant
        return Quantisation(4, settings.bnb_4bit_quant_type, double)
    return None


def _targets(settings: Settings, source: ModelSource) -> str | list[str]:
    wanted = settings.lora_target_modules
    if wanted == ("all-linear",):
        return "all-linear"
    if wanted:
        return wanted[0] if len(wanted) == 1 else list(wanted)
    if not source.family.lora_targets:
        raise ArchitectureError(
            f"no default LoRA targets are known for model_type {source.config.get('model_type')}",
            why="the gallery has no family of this name",
            fix="--lora_target_modules q_proj,k_proj,v_proj,o_proj, by the names of its layers",
        )
    return list(source.family.lora_targets)
