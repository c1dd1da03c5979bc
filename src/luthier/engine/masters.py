"""float32 masters of weights that are held in 16 bits, without a second copy where possible.

A bfloat16 weight is the upper half of its master's bits, rounded to nearest (half up); the signed
remainder that was rounded away is kept as int16.  float16 has other exponent bits, so a whole
float32 copy is kept for it.  `exact=False` keeps nothing and rounds each update stochastically.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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


def round_stochastically(master: Tensor, generator: torch.Generator) -> Tensor:
    """float32 to bfloat16, up or down with the probability that makes the mean exact."""
    noise = torch.randint(0, 2**16, master.shape, dtype=torch.int32, generator=generator)
    bits = master.view(torch.int32) + noise.to(master.device)
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

    @contextmanager
    def opened(self, name: str, step: int) -> Iterator[Tensor]:
        """The whole float32 master of a weight, to be changed in place."""
        weight = self.trained[name].data
        if weight.dtype == torch.float32:
            yield weight
            return
        part = slice(0, weight.numel())
        master = self._open(name, part)
        yield master.view_as(weight)
        self._store(name, part, master, step)

    def opened_in_parts(self, name: str, step: int) -> Iterator[tuple[slice, Tensor]]:
        """The flat master part by part; a part is stored when the next one is asked for."""
        for start in range(0, self.trained[name].numel(), PART):
            part = slice(start, min(start + PART, self.trained[name].numel()))
            master = self._open(name, part)
            yield part, master
            self._store(name, part, master, step)

    def _open(self, name: str, part: slice) -> Tensor:
        weight = self.trained[name].data.view(-1)[part]
        if not self.exact:
            return weight.float()
        kept = self._kept[name].view(-1)[part]
        return join(weight, kept) if weight.dtype == torch.bfloat16 else kept

    def _store(self, name: str, part: slice, master: Tensor, step: int) -> None:
        weight = self.trained[name].data.view(-1)[part]
        if self.exact and weight.dtype == torch.bfloat16:
            upper, remainder = split(master)
            weight.copy_(upper)
            self._kept[name].view(-1)[part] = remainder
        elif self.exact or weight.dtype != torch.bfloat16:
            weight.copy_(master)
        else:
            generator = torch.Generator()
            place = self._order[name] * 2**20 + part.start // PART
            generator.manual_seed((self.seed * 1_000_003 + step) * 2**24 % 2**62 + place)
            weight.copy_(round_stochastically(master, generator))

    def state_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold beside the weights themselves."""
        return {f"master/{name}": tensor for name, tensor in self._kept.items()}
