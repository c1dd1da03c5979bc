"""A LoRA adapter as a GGUF file, which llama.cpp puts on the base's own GGUF when it loads it.

llama.cpp scales by one alpha over the rank of each tensor: scales of its own that a layer has
(rank-stabilised, by pattern) are folded into its B.  Rows of B follow the rows of the weight.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Stored

from luthier.errors import AdapterError, DamagedWeightsError
from luthier.exchange.gguf_shapes import Array, architecture_of, arranged
from luthier.exchange.tensors import read_adapter_tensors
from luthier.sources.adapter_config import read_adapter_config, scale_of

PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"


def write_gguf_adapter(
    adapter: Path, config: Mapping[str, Any], target: Path, *, half: bool = False, name: str
) -> int:
    """Write the adapter of a folder in PEFT's format into a GGUF file, and read it back.

    Args:
        adapter: Holds `adapter_config.json` and its safetensors.
        config: The base's `config.json`.
        half: Store float16 instead of float32.
        name: What the file says it is.

    Returns:
        The number of layers.

    Raises:
        ArchitectureError: llama.cpp's form of the base is not known here.
        AdapterError: It has a part that llama.cpp has no form for.
        DamagedWeightsError: What was written does not read back.
    """
    form = architecture_of(config)
    own = read_adapter_config(adapter)
    tensors = _tensors(adapter, own, config)
    writer = gguf.GGUFWriter(target, form.name)
    writer.add_string("general.type", "adapter")
    writer.add_name(name)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(own["r"]))
    kind = np.float16 if half else np.float32
    for theirs, value in tensors.items():
        writer.add_tensor(theirs, np.ascontiguousarray(value, dtype=kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    _read_back(target, tensors, kind)
    return len(tensors) // 2


def _tensors(adapter: Path, own: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Array]:
    """A and B of every layer under llama.cpp's names, B with what its scale is beside the file's."""
    values = read_adapter_tensors(adapter)
    _check_kinds(adapter, own, list(values.shapes), config)
    kind = next(
        key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture_of(config).name
    )
    table = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    made: dict[str, Array] = {}
    for key in values.shapes:
        if not key.endswith(_A):
            continue
        module = key.removeprefix(PREFIX).removesuffix(_A)
        place = table.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if place is None:
            raise AdapterError(
                f"{module} of {adapter} has no place in llama.cpp's {architecture_of(config).name}",
                why="a layer that is left out would change every answer",
                fix="luthier export RUN --to gguf --output FOLDER, where it is merged",
            )
        a_RI, b_OR = values(key), values(f"{PREFIX}{module}{_B}").astype(np.float64)
        rank = a_RI.shape[0]
        b_OR = b_OR * (scale_of(own, module, rank) * rank / own["r"])  # it multiplies by r / rank
        made[f"{place}.lora_a"] = a_RI
        made[f"{place}.lora_b"] = arranged(f"{module}.weight", b_OR, config)
    return made


def _check_kinds(
    adapter: Path, own: Mapping[str, Any], names: list[str], config: Mapping[str, Any]
) -> None:
    """Refuse what an adapter of llama.cpp cannot hold."""
    others = [name for name in names if not name.endswith((_A, _B))]
    why = ""
    if own.get("use_dora"):
        why = "it has magnitudes (DoRA)"
    elif others:
        why = f"{others[0].removeprefix(PREFIX)} is trained whole beside it, or no linear layer"
    elif config.get("tie_word_embeddings") and any("lm_head" in name for name in names):
        why = "it adapts a head that this base ties to its embedding"
    if why:
        raise AdapterError(
            f"{adapter} cannot be an adapter of llama.cpp: {why}",
            why="its adapters hold A and B of linear layers and nothing else",
            fix="luthier export RUN --to gguf --output FOLDER, where everything is merged",
        )


def _read_back(target: Path, tensors: Mapping[str, Array], kind: Any) -> None:
    there = {tensor.name: tensor for tensor in gguf.GGUFReader(target).tensors}
    wanted = Stored.F16 if kind is np.float16 else Stored.F32
    same = set(there) == set(tensors) and all(
        there[name].tensor_type == wanted
        and np.array_equal(there[name].data.reshape(value.shape), value.astype(kind))
        for name, value in tensors.items()
    )
    if not same:
        raise DamagedWeightsError(
            f"{target.name} does not read back as it was written",
            why="the disk, or the memory, is at fault",
            fix="export again, to another disk",
        )
