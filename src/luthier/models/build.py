"""Build the transformers class of a config without memory for its matrices.

`torch.device("meta")` would also lose the buffers that are computed and in no file, the inverse
frequencies of rotary positions first of all: a model would load, and be wrong.  Here only
`torch.empty`, which every large parameter is made with, gives storage-less tensors; what is
computed is computed, in float32, on the CPU.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from luthier.errors import ArchitectureError, ModelError
from luthier.kernels.attention import ATTENTION, register

_REFUSALS = (
    KeyError, TypeError, AttributeError, IndexError, RuntimeError, ArithmeticError, AssertionError,
    StrictDataclassError,
)  # fmt: skip
"""What transformers and torch raise where a config's values make no model."""

_SAYS_NOTHING = (("torch_dtype", "auto"), ("dtype", "auto"))


class _EmptyWithoutStorage(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def make_config(fields: Mapping[str, object], report: list[str]) -> PretrainedConfig:
    """The transformers config of a checked `config.json`, every dropout at 0.

    Args:
        fields: The file's content.
        report: Gets a line that names the dropouts that were not 0.

    Raises:
        ArchitectureError: transformers does not know the type.
        ModelError: transformers refuses the values.
    """
    fields = {key: value for key, value in fields.items() if key != "auto_map"}
    fields = {k: v for k, v in fields.items() if (k, v) not in _SAYS_NOTHING}
    model_type = fields["model_type"]
    try:
        config = AutoConfig.for_model(**fields)
    except ValueError as error:
        raise ArchitectureError(
            f"model_type {model_type!r} is not built into transformers here: "
            + first_line(error).partition(" Should contain one of")[0],  # a list of hundreds
            why="no code that comes with a model is run here",
            fix="pip install -U transformers, or choose a known family: luthier gallery list",
        ) from error
    except _REFUSALS as error:
        raise ModelError(
            f"the config of this {model_type} model makes no sense: {first_line(error)}",
            why="transformers refuses its values",
            fix="fetch the model again",
        ) from error
    zeroed = _zero_dropout(config)
    if zeroed:
        report.append(f"dropout of the base model set to 0: {', '.join(sorted(zeroed))}")
    return config


def build(config: PretrainedConfig, *, storage: bool) -> PreTrainedModel:
    """The language model of a config in evaluation mode, frozen, with luthier's attention.

    Args:
        storage: Whether its parameters have memory (then they are initialised at random by the
            model's own rules) or not.

    Raises:
        ArchitectureError: It is not a causal language model, or its attention cannot be replaced.
        ModelError: Its values make no model.
    """
    register()
    try:
        if storage:
            model = _from_config(config)
        else:
            with _EmptyWithoutStorage():
                model = _from_config(config)
    except ValueError as error:
        raise ArchitectureError(
            f"{config.model_type} cannot be loaded as a language model: {first_line(error)}",
            why="a causal language model whose attention can be exchanged is needed",
            fix="choose a model of a known family: luthier gallery list",
        ) from error
    except _REFUSALS as error:
        raise ModelError(
            f"the config of this {config.model_type} model makes no sense: {first_line(error)}",
            why="transformers cannot build a model from its values",
            fix="fetch the model again",
        ) from error
    model.requires_grad_(False)
    return model.eval()


def generation_config(folder: Path) -> GenerationConfig | None:
    """The folder's `generation_config.json`, if it has one."""
    if not (folder / "generation_config.json").is_file():
        return None
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, *_REFUSALS) as error:
        raise ModelError(
            f"{folder / 'generation_config.json'} cannot be used: {first_line(error)}",
            why="transformers refuses its values",
            fix="mend the file, or remove it: its values are then those of config.json",
        ) from error


@contextmanager
def generation_mode(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """Within, the model runs with its own attention and without dropout; afterwards as before.

    The attention is torch's `sdpa`, or the written-out one where scores are soft-capped, which
    `sdpa` would leave out in silence.
    """
    was_training, before = model.training, model.config._attn_implementation
    model.eval()
    model.set_attn_implementation(own_attention(model.config))
    try:
        yield model
    finally:
        model.set_attn_implementation(before)
        model.train(was_training)


def own_attention(config: PretrainedConfig) -> str:
    """Which of transformers' attentions computes what this model means."""
    text = config.get_text_config()
    return "eager" if getattr(text, "attn_logit_softcapping", None) else "sdpa"


def _from_config(config: PretrainedConfig) -> PreTrainedModel:
    # float32 here: the dtype of parameters is given when they are filled, and what is computed
    # while building must not be rounded to 16 bits.
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=ATTENTION, trust_remote_code=False
    )
    return model


def _zero_dropout(config: PretrainedConfig) -> set[str]:
    zeroed = set()
    for part in {id(part): part for part in (config, config.get_text_config())}.values():
        for name, value in list(vars(part).items()):
            random = "dropout" in name or name.endswith("pdrop") or name == "router_jitter_noise"
            if random and isinstance(value, int | float) and not isinstance(value, bool) and value:
                setattr(part, name, 0.0)
                zeroed.add(f"{name} {value:g}")
    return zeroed


def first_line(error: BaseException) -> str:
    """The first line of a library's message, which may have many."""
    return str(error).strip().split("\n", 1)[0][:200]
