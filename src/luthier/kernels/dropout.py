"""Dropout masks that are a function of the token, not of a generator's state.

T: tokens of a micro-batch.  K: columns.

Whether an element is kept is a hash of (seed, step, module, sample, position, column): no cut into
micro-batches, number of ranks or recomputation moves it, and every device gives the same bits.
The trap: tokens that several sequences share would share a mask, so prefixes are not shared while
dropout is above 0; two sequences of one row (chosen and rejected) need sample numbers of their own.

One 64-bit value (`kernels.splitmix`) serves four columns, 16 bits each.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from luthier.kernels.splitmix import GOLDEN, mix, scramble, signed

LANES = 65536  # a column's random number is one of so many: the rate is a multiple of 1/65536


class TokenKeys:
    """One hash for each token of the micro-batch at hand; the LoRA modules of a model share it.

    `set` is called before each forward pass that trains.
    """

    def __init__(self) -> None:
        self._key_T: Tensor | None = None

    def set(self, *, seed: int, step: int, sample_T: Tensor, position_T: Tensor) -> None:
        """Take the tokens of the coming forward pass.

        Args:
            seed: Of the run.
            step: Optimiser step, 1-based.
            sample_T: Number of the sequence a token belongs to, int64, the same in every cut.
            position_T: Position within that sequence.
        """
        start = torch.tensor([signed(seed), signed(step)], dtype=torch.int64)
        start = mix(mix(start[:1]) + start[1:]).to(sample_T.device)
        key_T = mix(start + sample_T.to(torch.int64).reshape(-1))
        self._key_T = mix(key_T + position_T.to(torch.int64).reshape(-1))

    def clear(self) -> None:
        """Forget the tokens, so that a forward pass without its own is noticed."""
        self._key_T = None

    def held(self) -> AbstractContextManager[None]:
        """Within, the tokens of now, whichever were set since."""
        return self._with(self._key_T)

    @contextmanager
    def _with(self, key_T: Tensor | None) -> Iterator[None]:
        before, self._key_T = self._key_T, key_T
        try:
            yield
        finally:
            self._key_T = before

    def of_module(self, module: int) -> Tensor:
        """The hash of each token for one module, int64."""
        assert self._key_T is not None, "a forward pass with dropout needs TokenKeys.set first"
        return mix(self._key_T + signed(module))


def module_number(name: str) -> int:
    """A number for a module that depends on its name alone, below 2^63."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1


def kept(key_T: Tensor, columns: int, rate: float) -> Tensor:
    """Which elements are kept: bool, shape (T, K).

    Args:
        key_T: From `TokenKeys.of_module`.
        columns: K.
        rate: Share that is dropped, 0 <= rate < 1, rounded to a multiple of 1/65536.
    """
    words = -(-columns // 4)
    column_K = torch.arange(1, words + 1, dtype=torch.int64, device=key_T.device) * GOLDEN
    lane_TK = scramble(key_T[:, None] + (column_K + GOLDEN)).view(torch.int16)
    keep_TK = lane_TK >= _lanes(rate) - LANES // 2
    return keep_TK if 4 * words == columns else keep_TK[:, :columns]


def uniform(key_T: Tensor, columns: int) -> Tensor:
    """Even noise between -1 and 1, float32, shape (T, K), in steps of 1/32768; arguments as `kept`."""
    words = -(-columns // 4)
    column_K = torch.arange(1, words + 1, dtype=torch.int64, device=key_T.device) * GOLDEN
    lane_TK = scramble(key_T[:, None] + (column_K + GOLDEN)).view(torch.int16)
    return (lane_TK[:, :columns].float() + 0.5) / (LANES // 2)


def upscale(rate: float) -> float:
    """What the kept elements are multiplied by: one over the share that is kept, exactly."""
    return LANES / (LANES - _lanes(rate))


def dropout_plain(x_TK: Tensor, key_T: Tensor, rate: float) -> Tensor:
    """The plain twin of what `lora_linear` does inside: drop, scale up, let autograd differentiate."""
    return x_TK * kept(key_T, x_TK.shape[-1], rate) * upscale(rate)


def _lanes(rate: float) -> int:
    assert 0 <= rate < 1, f"a dropout rate is at least 0 and below 1, not {rate}"
    return min(round(rate * LANES), LANES - 1)
