"""float32 masters of weights that are held in 16 bits, without a second copy where possible.

A bfloat16 weight is the upper half of its master's bits, rounded to nearest (half up); the signed
remainder that was rounded away is kept as int16.  float16 has other exponent bits, so a whole
float32 copy is kept for it.  `exact=False` keeps nothing and rounds each update stochastically.
"""

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from luthier.kernels.splitmix import GOLDEN, scramble, signed

PART = 2**22  # elements opened at once, so that a large embedding needs 16 MiB and not gigabytes


def join(weight: Tensor, remainder: Tensor) -> Tensor:
    """The float32 master of a bfloat16 weight and its int16 remainder."""
    upper = weight.view(torch.int16).to(torch.int32) << 16
    return (upper + remainder).view(torch.float32)


def split(master: Tensor) -> tuple[Tensor, Tensor]:
    """A float32 master as bfloat16, rounded to nearest, and the int16 remainder: `join` inverts it."""
    bits = master.view(torch.int32)
    upper = (bits + 0x8000) >> 16
    remainder = (bits - (upper << 16)).to(torch.int16)
    return upper.to(torch.int16).view(torch.bfloat16), remainder


def round_stochastically(master_N: Tensor, key: int) -> Tensor:
    """float32 to bfloat16, up or down with the probability that makes the mean exact.

    Args:
        master_N: Flat.
        key: The noise is a function of it and of the place of a value, the same on every device.
    """
    words = -(-len(master_N) // 4)  # one 64-bit number serves four values
    place = torch.arange(1, words + 1, dtype=torch.int64, device=master_N.device)
    lanes = scramble(place.mul_(GOLDEN).add_(signed(key))).view(torch.int16)[: len(master_N)]
    bits = master_N.view(torch.int32) + (lanes.to(torch.int32) & 0xFFFF)
    return (bits >> 16).to(torch.int16).view(torch.bfloat16)


class Masters:
    """Opens the master of a weight for an update and stores what came of it."""

    def __init__(
        self, trained: Mapping[str, nn.Parameter], *, exact: bool = True, seed: int = 0
    ) -> None:
        self.trained = trained
        self.exact = exact
        self.seed = seed
        self._order = {name: place for place, name in enumerate(trained)}
        self._kept: dict[str, Tensor] = {}

    def allocate(self) -> None:
        """Remainders (bfloat16) and copies (float16), before the first step."""
        for name, weight in self.trained.items():
            if name in self._kept or not self.exact:
                continue
            if weight.dtype == torch.bfloat16:
                self._kept[name] = torch.zeros_like(weight, dtype=torch.int16)
            elif weight.dtype == torch.float16:
                self._kept[name] = weight.detach().float()

    def parts(self, name: str) -> Iterator[slice]:
        """The flat parts that a weight is opened in, one after the other."""
        for start in range(0, self.trained[name].numel(), PART):
            yield slice(start, min(start + PART, self.trained[name].numel()))

    def open(self, name: str, part: slice | None = None) -> Tensor:
        """The float32 master to be changed in place: the whole in its shape, or a part of it, flat."""
        whole = self.trained[name].data
        if whole.dtype == torch.float32:
            return whole if part is None else whole.view(-1)[part]
        weight = whole.view(-1)[part or slice(None)]
        if not self.exact:
            master = weight.float()
        else:
            kept = self._kept[name].view(-1)[part or slice(None)]
            master = join(weight, kept) if weight.dtype == torch.bfloat16 else kept
        return master if part else master.view_as(whole)

    def store(self, name: str, master: Tensor, step: int, part: slice | None = None) -> None:
        """Keep a changed master; all memory is asked for before a byte is written."""
        if self.trained[name].dtype == torch.float32:
            return
        master, part = master.view(-1), part or slice(0, self.trained[name].numel())
        weight = self.trained[name].data.view(-1)[part]
        if self.exact and weight.dtype == torch.bfloat16:
            upper, remainder = split(master)
            weight.copy_(upper)
            self._kept[name].view(-1)[part] = remainder
        elif self.exact or weight.dtype != torch.bfloat16:
            weight.copy_(master)
        else:
            for start in range(0, len(master), PART):
                place = f"{self.seed} {step} {self._order[name]} {part.start + start}".encode()
                key = int.from_bytes(hashlib.blake2b(place, digest_size=8).digest())
                piece = slice(start, start + PART)
                weight[piece] = round_stochastically(master[piece], key)

    def state_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold beside the weights themselves."""
        return {f"master/{name}": tensor for name, tensor in self._kept.items()}
