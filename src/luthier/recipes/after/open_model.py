"""A model ready to answer or to be measured: a run's result, a folder, a gallery name."""

from dataclasses import dataclass
from typing import Any

from luthier.bounded import decode
from luthier.data.rendering.render import Renderer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.inference.dialogue import ChatSession, Sampling
from luthier.models.adapter_files import load_adapter
from luthier.models.adapters import Adapters
from luthier.models.load import load_base
from luthier.models.quantise import Quantisation
from luthier.recipes.after.rendering import open_rendering
from luthier.recipes.run.choices import DTYPES, choose_dtype, this_machine
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
    machine = this_machine()
    how = training_of(source)
    rendering = open_rendering(source)  # before the weights: what is wrong with it is said sooner
    notices: list[str] = []
    dtype_name, _ = choose_dtype(how.get("torch_dtype", torch_dtype), machine)
    model = load_base(
        source.base,
        dtype=DTYPES[dtype_name],
        quantisation=quantisation_of(how, load_in_4bit, load_in_8bit),
        device=machine.device,
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


def training_of(source: ModelSource) -> dict[str, Any]:
    """The settings a run was trained with; empty for anything else."""
    if source.run is None:
        return {}
    path = source.run / "settings.json"
    values: dict[str, Any] = decode(path.read_text("utf-8"))["settings"]
    return values


def quantisation_of(
    how: dict[str, Any], in_4bit: bool = False, in_8bit: bool = False
) -> Quantisation | None:
    """How to hold the base of what was trained with these settings, or as is asked for."""
    if in_8bit or how.get("load_in_8bit"):
        return Quantisation(8, "int8")
    if in_4bit or how.get("load_in_4bit"):
        return Quantisation(
            4, how.get("bnb_4bit_quant_type", "nf4"), how.get("bnb_4bit_use_double_quant", False)
        )
    return None
