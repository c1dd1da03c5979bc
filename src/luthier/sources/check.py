"""What can be said about a model from its config alone, before anything is allocated or built."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from luthier.bounded import read_object, shown
from luthier.errors import (
    ArchitectureError,
    ModelError,
    QuantisationError,
    RemoteCodeError,
    TokenizerError,
)
from luthier.gallery import family_of
from luthier.limits import CONFIG_BYTES
from luthier.sources.config_types import type_problems

MAX_PLAIN_BYTES = 2**34

# Field names of the families, with the largest value a real model has, and room above it.
_BOUNDS = {
    ("num_hidden_layers", "n_layer"): 1_000,
    ("hidden_size", "n_embd"): 2**17,
    ("num_attention_heads", "n_head"): 4_096,
    ("num_key_value_heads",): 4_096,
    ("head_dim",): 2**14,
    ("intermediate_size", "n_inner", "moe_intermediate_size"): 2**20,
    ("vocab_size",): 2**22,
    ("max_position_embeddings", "n_positions"): 2**28,
    ("num_local_experts", "num_experts"): 4_096,
}


def read_config(folder: Path) -> dict[str, object]:
    """The `config.json` of a model folder, checked.

    Raises:
        ModelError: It is missing, not a JSON object, or its numbers make no model.
        RemoteCodeError: Its type is known only to code that comes with the model.
        QuantisationError: The weights are already quantised.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{folder} has no config.json",
            why="a model folder holds config.json, *.safetensors and a tokenizer",
            fix="give the folder that holds them, or a gallery name: luthier gallery list",
        )
    refuse = partial(_config_error, path)
    config = read_object(path, refuse, max_bytes=CONFIG_BYTES, same_twice=True)
    check_config(config, path)
    return config


def check_config(config: Mapping[str, object], path: Path) -> None:
    """Raise what `read_config` raises, for a config that has been read already."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise _config_error(path, f"model_type is {shown(model_type)}, a name is needed")
    if config.get("auto_map") and not family_of(config).known:
        raise RemoteCodeError(
            f"{path} asks for code of its own: model_type {model_type!r} with auto_map",
            why="no code that comes with a model is run here; only types built into transformers load",
            fix="choose a model of a known family: luthier gallery list",
        )
    if not (family := family_of(config)).trains:
        raise ArchitectureError(
            f"{path} describes a model of the type {model_type}, which luthier does not train",
            why=family.reason,
            fix="choose a model of another family: luthier gallery list",
        )
    if config.get("is_encoder_decoder"):
        raise ArchitectureError(
            f"{path} describes an encoder-decoder model ({model_type})",
            why="luthier fine-tunes decoder-only language models",
            fix="choose a model of a known family: luthier gallery list",
        )
    _refuse_quantised(config, path)
    text = config.get("text_config")
    problems = [*_size_problems(config), *type_problems(config)]
    if isinstance(text, Mapping):
        problems += [*_size_problems(text), *type_problems(text)]
    if problems:
        raise _config_error(path, "; ".join(problems))


def check_tokenizer_fits(num_tokens: int, embedding_rows: int) -> None:
    """Refuse a tokenizer whose largest id + 1 is more than the model has embeddings for.

    Raises:
        TokenizerError: Ids would fall outside of the table.
    """
    if num_tokens > embedding_rows:
        raise TokenizerError(
            f"the tokenizer has {num_tokens:,} tokens, the model embeds {embedding_rows:,}",
            why=f"ids {embedding_rows:,} to {num_tokens - 1:,} have no embedding",
            fix="use the tokenizer that belongs to the model, or remove the added tokens",
        )


def embedding_rows(config: Mapping[str, object]) -> int | None:
    """Rows of the embedding by a checked config; None where it names none."""
    text = config.get("text_config")
    value = (text if isinstance(text, Mapping) else config).get("vocab_size")
    return value if isinstance(value, int) else None


def ignored_code(config: Mapping[str, object]) -> str | None:
    """A notice if the config names code of its own that is not needed and not run."""
    if config.get("auto_map"):
        return f"auto_map of the config ignored: {config['model_type']} is built in, no code of the model is run"
    return None


def _size_problems(config: Mapping[str, Any]) -> list[str]:
    problems = []
    for names, largest in _BOUNDS.items():
        for name in names:
            value = config.get(name)
            if value is None:
                continue
            if type(value) is not int or not 1 <= value <= largest:
                problems.append(f"{name} is {shown(value)}, 1 to {largest:,} is possible")
    if problems:
        return problems
    heads = config.get("num_attention_heads", config.get("n_head"))
    hidden = config.get("hidden_size", config.get("n_embd"))
    groups = config.get("num_key_value_heads")
    if heads and groups and heads % groups:
        problems.append(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {groups}"
        )
    if heads and hidden and config.get("head_dim") is None and hidden % heads:
        problems.append(f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}")
    return problems


def _refuse_quantised(config: Mapping[str, Any], path: Path) -> None:
    text = config.get("text_config")
    nested = text.get("quantization_config") if isinstance(text, Mapping) else None
    found = config.get("quantization_config") or nested
    if not found:
        return
    kind = (
        found.get("quant_method", "an unnamed method") if isinstance(found, Mapping) else str(found)
    )
    raise QuantisationError(
        f"the weights of {path.parent} are already quantised ({kind})",
        why="luthier quantises the original weights itself, so that merging is exact; "
        "GPTQ, AWQ, FP8, MXFP4 and bitsandbytes folders are not loaded",
        fix="give the original model and add: --load_in_4bit true",
    )


def _config_error(path: Path, why: str) -> ModelError:
    return ModelError(
        f"{path} describes no model", why=why, fix="fetch the model again, or mend the file"
    )
