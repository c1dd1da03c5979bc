"""The safetensors files of a folder, checked before a byte of them is used.

A header is parsed here, by our own rules, although the library would check most of them: a hostile
file must end in a sentence, with bounded memory, whatever version of the library is installed.

Source: https://github.com/huggingface/safetensors, section Format.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from luthier.bounded import decode, read_bytes, read_object, shown, why_not
from luthier.durable import MANIFEST, hash_file, read_manifest
from luthier.errors import (
    AdapterError,
    CheckpointError,
    DamagedWeightsError,
    ModelError,
    UnsafeWeightsError,
)
from luthier.limits import (
    HEADER_BYTES,
    INDEX_BYTES,
    SHARD_NAME_CHARS,
    TENSOR_DIMS,
    TENSOR_NUMBER,
)
from luthier.units import format_bytes

_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
_FETCH_AGAIN = "fetch the model again; the file is damaged or was never safetensors"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a file: its dtype by the format's name, its shape, its size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    num_bytes: int


def read_header(path: Path) -> dict[str, TensorSpec]:
    """The tensors of a safetensors file, in the order of their bytes.

    Raises:
        DamagedWeightsError: The file is not exactly a header and the tensors it names.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(HEADER_BYTES, size - 8):
            raise _damaged(
                path,
                f"its header claims {length:,} bytes, the file has {size:,}; at most {format_bytes(HEADER_BYTES)} are read",
            )
        raw = file.read(length)
    entries = _parse_header(raw, path)
    entries.pop("__metadata__", None)
    specs = {name: _spec(name, entry, path) for name, entry in entries.items()}
    order = sorted(specs, key=lambda name: specs[name][1])
    position = 0
    for name in order:
        spec, begin = specs[name]
        if begin != position:
            kind = "overlaps the one before" if begin < position else "leaves a hole before it"
            raise _damaged(
                path, f"tensor {name} {kind}: it begins at byte {begin:,}, not {position:,}"
            )
        position += spec.num_bytes
    if position != size - 8 - length:
        raise _damaged(
            path,
            f"its tensors take {position:,} bytes, the file holds {size - 8 - length:,} after the header",
        )
    return {name: specs[name][0] for name in order}


def find_weights(folder: Path) -> dict[Path, dict[str, TensorSpec]]:
    """The weight files of a model folder with their tensors; index and files must agree.

    Raises:
        UnsafeWeightsError: Only pickled weights are there.
        DamagedWeightsError: A shard is missing, unreadable, or not what the index says.
        ModelError: There are no weights, or they are of another kind (GGUF, ONNX).
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return _indexed(folder, index)
    single = folder / "model.safetensors"
    if single.is_file():
        _inside(single, folder)
        return {single: read_header(single)}
    raise _no_weights(folder)


def check_hashes(files: Iterable[Path], folder: Path) -> None:
    """Check weights against the manifest of a folder that luthier wrote; without one there is nothing to check.

    Raises:
        DamagedWeightsError: A file is not as it was written, or the manifest itself is not.
    """
    record = manifest_of(folder)
    if record is None:
        return
    for path in files:
        entry = record["files"].get(path.name)
        if entry is None or entry["bytes"] != path.stat().st_size:
            found = f"has {path.stat().st_size:,} bytes" if entry else "is not named"
            raise _changed(path, f"it {found} in the manifest of its folder")
        if hash_file(path) != entry["sha256"]:
            raise _changed(path, "it does not have the checksum it was written with")


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder that luthier wrote; None for any other folder.

    Raises:
        DamagedWeightsError: It is ours, and damaged, edited, or of a newer luthier.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        body = decode(read_bytes(path, INDEX_BYTES))
    except ValueError:
        body = None  # half of ours, or a file of that name by another tool
    if not isinstance(body, dict) or not {"format", "kind", "files", "sha256"} <= body.keys():
        return None
    try:
        return read_manifest(folder)
    except CheckpointError as error:
        raise DamagedWeightsError(error.what, why=error.why, fix=_FETCH_AGAIN) from error


MERGED = "merged_adapters"
"""In the record of a merged model's manifest: SHA-256 of each adapter's weights that is in it."""


def merged_adapters(base: Path) -> list[str]:
    """The adapters that were merged into a model by luthier; empty for any other."""
    body = manifest_of(base)
    return list(body["record"].get(MERGED, ())) if body else []


def refuse_second_merge(adapter: Path, base: Path) -> None:
    """Refuse an adapter on a model that it was merged into already.

    Args:
        adapter: Its safetensors file.

    Raises:
        AdapterError: It would work at double strength.
    """
    there = merged_adapters(base)
    if there and adapter.is_file() and hash_file(adapter) in there:
        raise AdapterError(
            f"the adapter {adapter.parent} is already merged into {base}",
            why="put on it again, it would work at double strength",
            fix=f"use the merged model alone: --model '{base}'; or write the original base into adapter_config.json",
        )


def _changed(path: Path, why: str) -> DamagedWeightsError:
    return DamagedWeightsError(
        f"{path} was changed after it was saved",
        why=why,
        fix=f"fetch or export it again; if it was changed on purpose: rm '{path.parent / MANIFEST}'",
    )


def _indexed(folder: Path, index: Path) -> dict[Path, dict[str, TensorSpec]]:
    body = read_object(index, partial(_damaged, index), max_bytes=INDEX_BYTES)
    weight_map = body.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise _damaged(index, "it has no weight_map from tensor names to files")
    for name, shard in weight_map.items():
        plain = (
            isinstance(shard, str)
            and len(shard) <= SHARD_NAME_CHARS
            and Path(shard).name == shard
            and shard.endswith(".safetensors")
            and shard.isprintable()
        )
        if not plain:
            raise DamagedWeightsError(
                f"{index} places tensor {shown(name)} in {shown(shard)}",
                why="a shard is a plain .safetensors file name in the same folder, never a path",
                fix=_FETCH_AGAIN,
            )
    shards = sorted(set(weight_map.values()))
    if missing := [shard for shard in shards if not (folder / shard).is_file()]:
        raise DamagedWeightsError(
            f"{folder} lacks {', '.join(missing)}",
            why=f"the index names {len(shards)} files",
            fix="fetch the model again",
        )
    found: dict[Path, dict[str, TensorSpec]] = {}
    for shard in shards:
        _inside(folder / shard, folder)
        tensors = read_header(folder / shard)
        expected = {name for name, place in weight_map.items() if place == shard}
        if wrong := sorted(expected ^ set(tensors)):
            raise _damaged(
                folder / shard,
                f"index and file disagree about {len(wrong)} tensors, first {wrong[0]}",
            )
        found[folder / shard] = tensors
    return found


def _inside(path: Path, folder: Path) -> None:
    """Refuse a link that leaves the folder, save for the blobs beside a snapshot of the hub's cache."""
    target, home = path.resolve(), folder.resolve()
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parents[1] / "blobs")
    if not any(target.is_relative_to(place) for place in allowed):
        raise ModelError(
            f"{path} is a link to {target}",
            why="files of a model stay inside its folder",
            fix="copy the file into the folder",
        )


def _no_weights(folder: Path) -> ModelError:
    names = sorted(path.name for path in folder.iterdir())
    if pickled := [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]:
        return UnsafeWeightsError(
            f"{folder} has its weights only as {pickled[0]}",
            why="pickled files can run code when they are opened; luthier reads safetensors and nothing else",
            fix="take a revision of the model with *.safetensors, or convert it in a sandbox: "
            "https://huggingface.co/spaces/safetensors/convert",
        )
    if other := [
        name for name in names if name.endswith((".gguf", ".ggml", ".onnx", ".h5", ".msgpack"))
    ]:
        return ModelError(
            f"{folder} has its weights only as {other[0]}",
            why="luthier fine-tunes models in safetensors; GGUF, ONNX, TensorFlow and Flax files are not read",
            fix="give the folder or hub id of the original model",
        )
    return ModelError(
        f"{folder} has no weights",
        why="model.safetensors, or model.safetensors.index.json with its shards, is needed",
        fix="fetch the model again; to start from random weights: --from_scratch true",
    )


def _spec(name: str, entry: Any, path: Path) -> tuple[TensorSpec, int]:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _damaged(path, f"tensor {name} lacks dtype, shape or data_offsets") from None
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if any(type(n) is not int or not 0 <= n <= TENSOR_NUMBER for n in numbers):
        raise _damaged(path, f"tensor {shown(name)} has a shape or an offset that is not a count")
    if len(shape) > TENSOR_DIMS:
        raise _damaged(
            path,
            f"tensor {shown(name)} has {len(shape):,} dimensions; at most {TENSOR_DIMS} are read",
        )
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise _damaged(path, f"tensor {shown(name)} has the unknown dtype {shown(dtype)}")
    size = math.prod(shape) * _ITEM_BYTES[dtype]
    if size != end - begin:
        raise _damaged(
            path, f"tensor {name} of {dtype} {shape} needs {size:,} bytes, it has {end - begin:,}"
        )
    if not size:
        raise _damaged(path, f"tensor {name} of shape {shape} holds nothing")
    return TensorSpec(dtype, tuple(shape), size), begin


def _parse_header(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        fields = decode(raw)
    except UnicodeDecodeError as error:
        raise _damaged(path, f"its header is not UTF-8 at byte {error.start:,}") from None
    except ValueError as error:
        raise _damaged(path, f"its header: {why_not(error)}") from None
    if not isinstance(fields, dict):
        raise _damaged(path, "its header is not a JSON object")
    return fields


def _damaged(path: Path, why: str) -> DamagedWeightsError:
    return DamagedWeightsError(f"{path} is damaged", why=why, fix=_FETCH_AGAIN)
