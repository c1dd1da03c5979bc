"""A whole model on disk: sharded safetensors, config, tokenizer and a card, read back before it counts."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from luthier.errors import DamagedWeightsError, ModelError, NonFiniteError
from luthier.kernels.finite import is_finite
from luthier.models.lora_layer import LoraLayer, TrainedModule, plain_layer
from luthier.models.quantise import QuantisedLinear
from luthier.sources.weights import find_weights

SHARD_BYTES = 5 * 10**9  # what the hub recommends at most
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


def save_model(
    model: PreTrainedModel,
    folder: Path,
    *,
    config: Mapping[str, Any],
    shard_bytes: int = SHARD_BYTES,
) -> int:
    """Write weights, config and generation config into a folder that exists, and read them back.

    Args:
        model: Without an adapter: merge it first.  Quantised layers are written dequantised.
        folder: A `DurableFolder`'s own path, so that the files appear whole.
        config: The base's `config.json`: its fields are kept, the dropouts that were set to 0 for
            training too; dtype and tying are those of the weights.
        shard_bytes: Largest size of one file.

    Returns:
        Bytes of all weights.

    Raises:
        ModelError: An adapter is still on the model.
        NonFiniteError: A weight is NaN or infinite; nothing is written.
        DamagedWeightsError: What was written does not read back equal.
    """
    unmerged = [n for n, m in model.named_modules() if isinstance(m, LoraLayer | TrainedModule)]
    if unmerged:
        raise ModelError(
            f"{len(unmerged)} layers still carry an adapter, first {unmerged[0]}",
            why="a whole model is saved with its adapter merged",
            fix="luthier export RUN --to merged --output FOLDER",
        )
    for name, layer in list(model.named_modules()):
        if isinstance(layer, QuantisedLinear):
            model.set_submodule(name, plain_layer(layer))
    state = published_state(model)
    if bad := [name for name, value in state.items() if not is_finite(value)]:
        raise NonFiniteError(
            f"{len(bad)} weights of the model are not numbers, first {bad[0]}",
            why="such a model is of no use; it was not saved",
            fix="resume from the last checkpoint with a lower learning rate",
        )
    _write_weights(state, folder, shard_bytes)
    fields = json.dumps(saved_config(model, config), indent=2, sort_keys=True)
    (folder / "config.json").write_text(fields + "\n", encoding="utf-8")
    if (generation := getattr(model, "generation_config", None)) is not None:
        text = json.dumps(generation.to_diff_dict(), indent=2, sort_keys=True)
        (folder / "generation_config.json").write_text(text + "\n", encoding="utf-8")
    _read_back(state, folder)
    return sum(value.nbytes for value in state.values())


def saved_config(model: PreTrainedModel, config: Mapping[str, object]) -> dict[str, object]:
    """The `config.json` of a model that was trained from one with this config."""
    fields = {key: value for key, value in config.items() if key not in {"auto_map", "torch_dtype"}}
    fields["dtype"] = str(model.config.dtype).removeprefix("torch.")
    fields["architectures"] = [type(model).__name__]
    fields["transformers_version"] = transformers.__version__
    if model.config.tie_word_embeddings != _tied_by_default(fields):
        fields["tie_word_embeddings"] = model.config.tie_word_embeddings
    return fields


def copy_tokenizer(source: Path, folder: Path, *, template: str | None = None) -> list[str]:
    """Copy a tokenizer's files; returns their names.

    Args:
        source: Folder with at least one of them.
        folder: Where they go; the same folder is left as it is.
        template: A chat template to store where the tokenizer carries none (or another).
    """
    names = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    if source.resolve() != folder.resolve():
        for name in names:
            shutil.copyfile(source / name, folder / name)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        names = [*dict.fromkeys([*names, "chat_template.jinja"])]
    return names


def published_state(model: PreTrainedModel) -> dict[str, Tensor]:
    """Weights under the names of published files, each once."""
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    state = {
        name: value.detach()
        for name, value in model.state_dict().items()
        if name not in tied or not _same(model, name, tied[name])
    }
    # Experts are stacked in memory and single in files.
    published: dict[str, Tensor] = revert_weight_conversion(model, state)
    return {name: value.contiguous() for name, value in published.items()}


def _same(model: PreTrainedModel, first: str, second: str) -> bool:
    return model.get_parameter(first) is model.get_parameter(second)


def _tied_by_default(fields: Mapping[str, object]) -> bool | None:
    value = fields.get("tie_word_embeddings")
    return value if isinstance(value, bool) else None


def _shards(state: Mapping[str, Tensor], shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, value in state.items():
        if shard and size + value.nbytes > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = value
        size += value.nbytes
    yield shard


def _write_weights(state: Mapping[str, Tensor], folder: Path, shard_bytes: int) -> None:
    shards = list(_shards(state, shard_bytes))
    if len(shards) == 1:
        save_file(shards[0], folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, name)
    total = sum(value.nbytes for value in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, indent=2)
    (folder / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")


def _read_back(state: Mapping[str, Tensor], folder: Path) -> None:
    """Open every file as a stranger would and compare every value."""
    seen = set()
    for path in find_weights(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                seen.add(name)
                if not torch.equal(file.get_tensor(name), state[name].cpu()):
                    raise DamagedWeightsError(
                        f"tensor {name} of {path} does not read back as it was written",
                        why="the disk, or the memory, is at fault",
                        fix="save again, to another disk",
                    )
    assert seen == set(state), "files and model have the same tensors"
