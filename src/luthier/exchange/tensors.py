"""Values of the safetensors of a folder by name, without torch, bfloat16 included."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from luthier.exchange.gguf_shapes import Array
from luthier.sources.adapter_config import check_weights_there
from luthier.sources.weights import TensorSpec, find_weights, read_header

_KINDS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True)
class Tensors:
    """A function from a name to its values; bfloat16 comes as float32.

    Args:
        places: File, first byte, type and shape of each tensor.
    """

    places: Mapping[str, tuple[Path, int, str, tuple[int, ...]]]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {name: shape for name, (_, _, _, shape) in self.places.items()}

    def __call__(self, name: str) -> Array:
        path, start, kind, shape = self.places[name]
        raw = np.memmap(path, dtype=_KINDS[kind], mode="r", offset=start, shape=shape)
        if kind == "BF16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        return np.array(raw)


def read_tensors(folder: Path) -> Tensors:
    """Where each tensor of a folder lies.

    Raises:
        ModelError: And its kinds; see `find_weights`.
    """
    return _laid_out(find_weights(folder))


def read_adapter_tensors(folder: Path) -> Tensors:
    """Likewise of an adapter.

    Raises:
        AdapterError: There are none.
        DamagedWeightsError: The file is not well-formed.
    """
    path = check_weights_there(folder)
    return _laid_out({path: read_header(path)})


def _laid_out(files: Mapping[Path, Mapping[str, TensorSpec]]) -> Tensors:
    places: dict[str, tuple[Path, int, str, tuple[int, ...]]] = {}
    for path, tensors in files.items():
        start = path.stat().st_size - sum(spec.num_bytes for spec in tensors.values())
        for name, spec in tensors.items():  # in the order of their bytes, without gaps
            places[name] = (path, start, spec.dtype, spec.shape)
            start += spec.num_bytes
    return Tensors(places)
