"""Which form of attention runs, and why: the text that a run prints."""

from typing import Literal, NamedTuple

import torch

from luthier.kernels.planned import cuda_capability, device_kind

Kernel = Literal["tree", "chunks", "levels", "node loop"]

FLASH_CAPABILITY = (8, 0)
FLASH_WIDTH = 256


class Choice(NamedTuple):
    """A form of attention and the reason for it, as a clause that can follow "because"."""

    kernel: Kernel
    reason: str

    def __str__(self) -> str:
        return f"attention: {self.kernel} ({self.reason})"


def choose(
    *,
    device: torch.device,
    dtype: torch.dtype,
    head_width: int,
    value_width: int | None = None,
    softcap: float | None = None,
    windowed: bool = False,
    capability: tuple[int, int] | None = None,
) -> Choice:
    """Choose the form of attention for one layer.

    Args:
        device: Where the layer runs.
        dtype: Of queries and keys.
        head_width: Of queries and keys.
        value_width: Of values, where it differs.
        softcap: Of the scores, if the family has one.
        windowed: Whether a sliding window hides anything in this tree.
        capability: Of a CUDA device; asked of the device if not given.
    """
    if softcap is not None:
        return Choice("chunks", f"soft cap {softcap:g}: no fused kernel has one")
    if value_width not in (None, head_width):
        return Choice("chunks", f"values are {value_width} wide and keys {head_width}")
    if device_kind(device) == "cuda":
        return _choose_cuda(device, dtype, head_width, capability)
    if device.type != "cpu":
        return Choice("node loop", f"device {device.type}")
    if windowed:
        return Choice("chunks", "CPU, and the sliding window is shorter than the longest path")
    return Choice("tree", "CPU: one fused call for each node, one for each shared prefix")


def _choose_cuda(
    device: torch.device, dtype: torch.dtype, width: int, capability: tuple[int, int] | None
) -> Choice:
    capability = capability or cuda_capability(device)
    if capability < FLASH_CAPABILITY:
        major, minor = capability
        return Choice("node loop", f"compute capability {major}.{minor} is below 8.0")
    if dtype not in (torch.float16, torch.bfloat16):
        return Choice("node loop", f"{str(dtype).removeprefix('torch.')} is not a 16-bit type")
    if width > FLASH_WIDTH or width % 8:
        return Choice("node loop", f"head width {width} is above {FLASH_WIDTH} or no multiple of 8")
    return Choice(
        "levels", "CUDA, 16 bit, no soft cap: FlashAttention, one call a level of the tree"
    )
