"""A model ready to answer or to be measured: a run's result, a folder, a gallery name."""

from dataclasses import dataclass
from typing import Any

from luthier.config.read import load_saved
from luthier.config.settings import Settings
from luthier.data.rendering.render import Renderer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.inference.dialogue import ChatSession, Sampling
from luthier.models.adapter_files import load_adapter
from luthier.models.adapters import Adapters
from luthier.models.load import load_base
from luthier.models.quantise import Quantisation
from luthier.planner.choose import choose_dtype
from luthier.recipes.after.rendering import open_rendering
from luthier.recipes.run.devices import DTYPES, facts_of, torch_device
from luthier.recipes.run.trainee import quantisation_of
from luthier.sources.source import ModelSource, resolve_source


@dataclass
class Opened:
    """A loaded model with its tokenizer and the rendering it was trained with.

    Args:
        adapters: None if there is no adapter to switch off.
        system_prompt: The one of its training, if any.
    """

    source: ModelSource
    model: Any
    tokenizer: Tokenizer
    renderer: Renderer
    adapters: Adapters | None
    system_prompt: str | None
    notices: list[str]

    def chat(
        self, *, system_prompt: str | None = None, sampling: Sampling | None = None
    ) -> ChatSession:
        """A new dialogue; without a system text, with that of the training."""
        system = self.system_prompt if system_prompt is None else system_prompt
        return ChatSession(
            self.model,
            self.tokenizer,
            self.renderer,
            system_prompt=system or None,
            sampling=sampling,
            adapters=self.adapters,
            stop_ids=self.renderer.stop_ids,
        )


def open_model(
    name: str,
    *,
    revision: str | None = None,
    load_in_4bit: bool = False,
    load_in_8bit: bool = False,
    torch_dtype: str = "auto",
) -> Opened:
    """Load a model to answer with; a run's adapter goes on the base it was trained on.

    Args:
        name: A run, an adapter folder, a model folder, a gallery name or a hub id.
        load_in_4bit: Hold the base in 4 bits; runs trained so are opened so without asking.
    """
    source = resolve_source(name, revision=revision)
    device = torch_device()
    how = training_of(source)
    rendering = open_rendering(source)  # before the weights: what is wrong with it is said sooner
    notices: list[str] = []
    wanted = torch_dtype if how is None else how.torch_dtype
    dtype_name, _ = choose_dtype(wanted, facts_of(device))
    model = load_base(
        source.base,
        dtype=DTYPES[dtype_name],
        quantisation=_held(how, load_in_4bit, load_in_8bit),
        device=device,
        report=notices,
    )
    adapters = load_adapter(model, source.adapter, dropout=0.0) if source.adapter else None
    return Opened(
        source,
        model,
        rendering.tokenizer,
        rendering.renderer,
        adapters,
        rendering.system_prompt,
        [*notices, *rendering.notices],
    )


def training_of(source: ModelSource) -> Settings | None:
    """The settings a run was trained with; None for anything else."""
    return None if source.run is None else load_saved(source.run / "settings.json").settings


def _held(how: Settings | None, in_4bit: bool, in_8bit: bool) -> Quantisation | None:
    """How the base is held: as in the training, unless another number of bits is asked for."""
    trained = quantisation_of(how)
    asked = Quantisation(8, "int8") if in_8bit else Quantisation(4, "nf4") if in_4bit else None
    return trained if asked is None or (trained and trained.bits == asked.bits) else asked
