"""A merged model's folder as one GGUF file, and that file read back and compared.

One tensor is in memory at a time.  Weights that are vectors stay float32; in `q8_0` a matrix whose
rows are no multiple of 32 is kept in float16.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Stored

from luthier.bounded import decode
from luthier.data.limited.opening import open_folder
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import CapacityError, DamagedWeightsError
from luthier.exchange.gguf_shapes import (
    Architecture,
    Array,
    architecture_of,
    arranged,
    numbers_of,
    rope_factors,
)
from luthier.exchange.gguf_tokens import token_list
from luthier.exchange.tensors import read_tensors

Quant = Literal["f32", "f16", "bf16", "q8_0"]
QUANTS: tuple[Quant, ...] = get_args(Quant)
_STORED: dict[Quant, Stored] = {
    "f32": Stored.F32,
    "f16": Stored.F16,
    "bf16": Stored.BF16,
    "q8_0": Stored.Q8_0,
}
_FILE_TYPE: dict[Quant, int] = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
_LARGEST_F16 = 65504.0
ROPE_FACTORS = "rope_freqs.weight"
_FLOAT32 = np.dtype(np.float32)


def write_gguf(
    folder: Path,
    target: Path,
    *,
    quant: Quant,
    name: str,
    on_tensor: Callable[[str], None] = lambda name: None,
) -> None:
    """Write the model of a folder (config, safetensors, tokenizer) into a GGUF file.

    Args:
        quant: How matrices are stored.
        name: What the file says it is.
        on_tensor: Told of each tensor that was written.

    Raises:
        ArchitectureError: llama.cpp's form of this model is not known here.
        TokenizerError: It could not make the same ids.
        CapacityError: `f16` cannot hold a weight.
    """
    config = decode((folder / "config.json").read_text("utf-8"))
    form = architecture_of(config)
    tokenizer = open_folder(folder)
    writer = gguf.GGUFWriter(target, form.name)
    _say(writer, form, config, quant=quant, name=_title(name, tokenizer))
    _say_tokens(writer, folder, tokenizer, rows=config["vocab_size"])
    # The container wants sizes first; values follow one by one.
    plan = list(_names(folder, config, form))
    for _, theirs, shape in plan:
        stored = _stored(shape, quant)
        writer.add_tensor_info(theirs, shape, _FLOAT32, _bytes(shape, stored), stored)
    factors = rope_factors(config)
    if factors is not None:
        writer.add_tensor_info(
            ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes, Stored.F32
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    values = read_tensors(folder)
    for ours, theirs, shape in plan:
        writer.write_tensor_data(
            _pack(theirs, arranged(ours, values(ours), config), _stored(shape, quant))
        )
        on_tensor(theirs)
    if factors is not None:
        writer.write_tensor_data(factors)
    writer.close()


def check_gguf(folder: Path, target: Path) -> dict[str, float]:
    """Read a file back and compare it with the folder it was written from, tensor by tensor.

    Returns:
        The largest difference of a value by storage type, as a share of what that type may lose
        (half a step): above 1 something is wrong.

    Raises:
        DamagedWeightsError: A tensor is missing, there twice, or further off than rounding explains.
    """
    config = decode((folder / "config.json").read_text("utf-8"))
    reader = gguf.GGUFReader(target)
    there = {tensor.name: tensor for tensor in reader.tensors}
    values = read_tensors(folder)
    worst: dict[str, float] = {}
    expected = {theirs: ours for ours, theirs, _ in _names(folder, config, architecture_of(config))}
    if len(there) != len(reader.tensors) or set(there) - {ROPE_FACTORS} != set(expected):
        raise DamagedWeightsError(
            f"{target.name} holds {len(reader.tensors)} tensors, the model {len(expected)}",
            why="each tensor of the model has one place in the file",
            fix="export again; if it happens again, this is a fault of luthier",
        )
    for theirs, ours in expected.items():
        tensor = there[theirs]
        wide = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        value = arranged(ours, values(ours), config).astype(np.float32)
        share = _off(wide.reshape(value.shape), value, tensor.tensor_type)
        kind = tensor.tensor_type.name.lower()
        worst[kind] = max(worst.get(kind, 0.0), share)
        if not share <= 1.0:
            raise DamagedWeightsError(
                f"{theirs} of {target.name} differs from {ours} by {share:.3g} times its rounding",
                why="the file was read back and compared with the model",
                fix="export again; if it happens again, this is a fault of luthier",
            )
    return worst


def _names(
    folder: Path, config: Mapping[str, Any], form: Architecture
) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Each tensor: its name in safetensors, in GGUF, and its shape."""
    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == form.name)
    table = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    for name, shape in read_tensors(folder).shapes.items():
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue  # llama.cpp ties where output.weight is missing
        found = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise DamagedWeightsError(
                f"tensor {name} has no place in llama.cpp's {form.name}",
                why="a weight that is left out would change every answer",
                fix="luthier export RUN --to merged --output FOLDER",
            )
        yield name, found, shape


def _stored(shape: tuple[int, ...], quant: Quant) -> Stored:
    if len(shape) < 2:
        return Stored.F32
    if quant == "q8_0" and shape[-1] % 32:
        return Stored.F16
    return _STORED[quant]


def _bytes(shape: tuple[int, ...], stored: Stored) -> int:
    count = 1
    for side in shape:
        count *= side
    block, size = gguf.GGML_QUANT_SIZES[stored]
    return int(count // block * size)


def _pack(name: str, value: Array, stored: Stored) -> Array:
    wide = np.ascontiguousarray(value, dtype=np.float32)
    if stored == Stored.F16 and (largest := float(np.abs(wide).max(initial=0.0))) > _LARGEST_F16:
        raise CapacityError(
            f"{name} holds {largest:g}",
            why=f"float16 ends at {_LARGEST_F16:g}",
            fix="--quant bf16",
        )
    packed: Array = gguf.quants.quantize(wide, stored)
    return packed


def _off(found: Array, value: Array, stored: Stored) -> float:
    """The largest difference, in units of what rounding to the storage type may lose."""
    gap = np.abs(found.astype(np.float64) - value.astype(np.float64))
    size = np.abs(value.astype(np.float64))
    if stored == Stored.F32:
        allowed = np.maximum(size * 2.0**-22, 1e-30)
    elif stored == Stored.F16:
        allowed = np.maximum(size * 2.0**-11, 2.0**-25)
    elif stored == Stored.BF16:
        allowed = np.maximum(size * 2.0**-8, 1e-38)
    else:
        blocks = size.reshape(*size.shape[:-1], -1, 32)
        step = blocks.max(-1, keepdims=True) / 127
        allowed = np.broadcast_to(step * 0.51 + blocks * 2.0**-10 + 1e-12, blocks.shape)
        allowed = allowed.reshape(size.shape)
    return float((gap / allowed).max(initial=0.0))


_PHI3_TOKENS = ("</s>", "<unk>", "<s>", "<|endoftext|>")


def _title(name: str, tokenizer: Tokenizer) -> str:
    """llama.cpp takes a name with phi-3 in it for that tokenizer and fails where its tokens lack."""
    vocabulary = tokenizer.definition["model"]["vocab"]
    named = "phi-3" in name.lower() or "phi3" in name.lower()
    there = all(token in vocabulary or token in tokenizer.special_tokens for token in _PHI3_TOKENS)
    return "tuned" if named and not there else name


def _say(
    writer: gguf.GGUFWriter,
    form: Architecture,
    config: Mapping[str, Any],
    *,
    quant: Quant,
    name: str,
) -> None:
    writer.add_string("general.type", "model")
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPE[quant])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in numbers_of(config).items():
        full = f"{form.name}.{key}"
        if isinstance(value, float):
            writer.add_float32(full, value)
        elif isinstance(value, str):
            writer.add_string(full, value)
        else:
            writer.add_uint32(full, value)


def _say_tokens(writer: gguf.GGUFWriter, folder: Path, tokenizer: Tokenizer, *, rows: int) -> None:
    listed = token_list(
        tokenizer.definition,
        tokenizer.special_tokens,
        rows=rows,
        unknown=tokenizer.roles.get("unk_token"),
    )
    writer.add_tokenizer_model(listed.model)
    writer.add_tokenizer_pre(listed.pre)
    writer.add_token_list(listed.tokens)
    writer.add_token_types(listed.kinds)
    if listed.scores:
        writer.add_token_scores(listed.scores)
        writer.add_add_space_prefix(listed.adds_space_prefix)
    if listed.merges:
        writer.add_token_merges(listed.merges)
    ends = _ends(folder, tokenizer)
    for add, number in (
        (writer.add_bos_token_id, tokenizer.bos_id),
        (writer.add_pad_token_id, tokenizer.pad_id),
        (writer.add_eos_token_id, ends[0] if ends else None),
        (writer.add_eot_token_id, ends[1] if len(ends) > 1 else None),
        (writer.add_eom_token_id, ends[2] if len(ends) > 2 else None),
    ):
        if number is not None:
            add(number)
    writer.add_add_bos_token(tokenizer.adds_bos)
    writer.add_add_eos_token(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _ends(folder: Path, tokenizer: Tokenizer) -> list[int]:
    """Every end that generation stops at, the tokenizer's own first; llama.cpp has three places."""
    path = folder / "generation_config.json"
    said = decode(path.read_text("utf-8")).get("eos_token_id") if path.is_file() else None
    listed = said if isinstance(said, list) else [said]
    first = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return list(dict.fromkeys(number for number in [*first, *listed] if number is not None))
