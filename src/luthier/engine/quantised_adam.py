"""AdamW with moments in 8 bits or in pages, through bitsandbytes.

Source: Dettmers et al. 2022, https://arxiv.org/abs/2110.02861 (block-wise 8-bit moments).  Moments of
weights with fewer than 4,096 elements stay in float32, as bitsandbytes does.  On a CPU pages are
ordinary memory.
"""

from typing import Any

import torch
from torch import Tensor, nn

from luthier.kernels.bnb import bitsandbytes


class QuantisedAdam:
    """One bitsandbytes optimiser, driven weight by weight.

    Each weight has a stand-in parameter that holds its float32 master for the time of an update;
    for float32 weights the stand-in shares the weight's memory.
    """

    def __init__(self, optim: str, *, betas: tuple[float, float], eps: float) -> None:
        self.bits = 8 if "8bit" in optim else 32
        self.paged = "paged" in optim
        self.betas, self.eps = betas, eps
        self._optimisers: dict[str, Any] = {}
        self._stand_in: dict[str, nn.Parameter] = {}
        self._unfinished: torch.device | None = None

    def allocate(self, name: str, weight: Tensor) -> None:
        """Moments of one weight, zeros."""
        if name in self._optimisers:
            return
        optim = bitsandbytes().optim
        stand_in = nn.Parameter(torch.zeros_like(weight, dtype=torch.float32))
        kind = optim.AdamW8bit if self.bits == 8 else optim.AdamW32bit
        paged = self.paged and weight.device.type == "cuda"
        optimiser = kind([stand_in], lr=0.0, betas=self.betas, eps=self.eps, is_paged=paged)
        optimiser.initialized = True
        optimiser.check_overrides()
        optimiser.init_state(optimiser.param_groups[0], stand_in, 0, 0)
        stand_in.data = torch.empty(0)
        self._optimisers[name], self._stand_in[name] = optimiser, stand_in

    def update(
        self, name: str, master: Tensor, gradient: Tensor, rate: float, decay: float, step: int
    ) -> None:
        """Update the float32 master in place."""
        optimiser, stand_in = self._optimisers[name], self._stand_in[name]
        stand_in.data, stand_in.grad = master, gradient
        group = optimiser.param_groups[0]
        group["lr"], group["weight_decay"] = rate, decay
        optimiser.prefetch_state(stand_in)
        optimiser.state[stand_in]["step"] = step - 1
        optimiser.update_step(group, stand_in, 0, 0)
        self._unfinished = master.device if self.paged and master.is_cuda else None
        stand_in.data, stand_in.grad = torch.empty(0), None

    def finish(self) -> None:
        """After the last weight: wait for pages that the device may still be writing to."""
        if self._unfinished is not None:
            torch.cuda.synchronize(self._unfinished)
            self._unfinished = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Moments, code books and block scales by name."""
        return {
            f"{key}/{name}": value
            for name, optimiser in self._optimisers.items()
            for key, value in sorted(optimiser.state[self._stand_in[name]].items())
            if isinstance(value, Tensor)
        }
