"""Gradients, clipping and the optimiser's update.

Weights that are trained in 16 bits keep float32 masters without a second copy: a bfloat16 weight is
the upper half of its master, rounded to nearest, and a signed 16-bit remainder is kept beside it
(master bits = weight bits * 65536 + remainder).  Their gradients accumulate in float32.  bfloat16
AdamW alone loses most small updates (12 % of the movement is left at a rate of 1e-6).

Optimiser state is allocated before the first step.  What an update needs besides is small and asked
for piece by piece before anything of the piece is changed, so that memory running out leaves no
update half done.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from luthier.engine.distribution import Ranks
from luthier.engine.masters import Masters
from luthier.engine.memory import with_room
from luthier.engine.quantised_adam import QuantisedAdam

Optim = Literal["adamw", "adamw_8bit", "adamw_32bit_paged", "adamw_8bit_paged"]


class Updater:
    """AdamW over named weights (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101, alg. 2).

    Weight decay touches matrices only, never biases or norm gains, nor what `no_decay` names.

    Args:
        trained: Weights by name; float32, or bfloat16 / float16 with masters.
        optim: `adamw` keeps float32 moments; the others keep them through bitsandbytes, in 8 bits
            and / or in pages that the driver may move to host memory.
        max_grad_norm: Largest norm of the whole gradient; 0 does not clip.
        master_weights: Keep float32 masters of 16-bit weights; False rounds stochastically.
        rates: Factors on the learning rate of some weights; 1 for the others.
        seed: For stochastic rounding, together with the step.
    """

    def __init__(
        self,
        trained: Mapping[str, nn.Parameter],
        *,
        optim: Optim = "adamw",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        master_weights: bool = True,
        no_decay: Collection[str] = (),
        rates: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        self.trained = dict(sorted(trained.items()))
        self.no_decay, self._rates = frozenset(no_decay), dict(rates or {})
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.max_grad_norm = max_grad_norm
        self.step = 0
        self.masters = Masters(self.trained, exact=master_weights, seed=seed)
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.quantised = QuantisedAdam(optim, betas=betas, eps=eps) if optim != "adamw" else None
        self._sums: dict[str, Tensor] = {}
        for name, weight in self.trained.items():
            if weight.dtype not in (torch.float32, torch.float64):
                weight.register_post_accumulate_grad_hook(self._into_float32(name))

    def _into_float32(self, name: str) -> object:
        def hook(weight: Tensor) -> None:
            assert weight.grad is not None
            if name in self._sums:
                self._sums[name] += weight.grad
            else:
                self._sums[name] = weight.grad.float()
            weight.grad = None

        return hook

    def allocate(self) -> None:
        """Optimiser state of every weight, before step 1, so that it cannot fail later."""
        for name, weight in self.trained.items():
            if self.quantised is not None:
                self.quantised.allocate(name, weight)
            elif name not in self.moments:
                kind = torch.promote_types(weight.dtype, torch.float32)
                self.moments[name] = (
                    torch.zeros_like(weight, dtype=kind),
                    torch.zeros_like(weight, dtype=kind),
                )
        self.masters.allocate()

    def gradients(self) -> dict[str, Tensor]:
        """Gradient of every weight that has one, float32 (float64 for float64 weights)."""
        found = {}
        for name, weight in self.trained.items():
            gradient = self._sums.get(name, weight.grad)
            if gradient is not None:
                found[name] = gradient
        return found

    def prepare(self, ranks: Ranks, loss_scale: float = 1.0) -> float:
        """Unscale, add over ranks and clip the gradients in place; returns the norm before clipping.

        A weight without a gradient (an expert no token was sent to) gets zeros, on every rank alike.
        """
        for name, weight in self.trained.items():
            if name not in self._sums and weight.grad is None:
                kind = torch.promote_types(weight.dtype, torch.float32)
                self._sums[name] = torch.zeros_like(weight, dtype=kind)
        gradients = list(self.gradients().values())
        if loss_scale != 1.0:
            for gradient in gradients:
                gradient /= loss_scale
        ranks.sum_gradients(gradients)
        if not gradients:
            return 0.0
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
        )
        if self.max_grad_norm > 0 and norm > self.max_grad_norm:
            factor = self.max_grad_norm / (norm + 1e-6)
            for gradient in gradients:
                gradient *= factor
        return float(norm)

    @torch.no_grad()
    def apply(self, learning_rate: float) -> None:
        """One AdamW update with the prepared gradients, which are dropped afterwards."""
        self.step += 1
        gradients = self.gradients()
        wide = [n for n in gradients if self.trained[n].dtype in (torch.float32, torch.float64)]
        if self.quantised is None:
            for decay, factor, names in self._groups(wide):
                self._adamw(
                    [self.trained[n].data for n in names],
                    [gradients[n] for n in names],
                    [self.moments[n] for n in names],
                    factor * learning_rate,
                    decay,
                )
        for name, gradient in gradients.items():
            rate = self._rates.get(name, 1.0) * learning_rate
            decay = self._decay(name)
            if self.quantised is not None:
                master = with_room(partial(self.masters.open, name))
                self.quantised.update(name, master, gradient, rate, decay, self.step)
                with_room(partial(self.masters.store, name, master, self.step))
            elif self.trained[name].dtype not in (torch.float32, torch.float64):
                self._update_master(name, gradient, rate, decay)
        if self.quantised is not None:
            self.quantised.finish()
        self.clear()

    def _update_master(self, name: str, gradient: Tensor, rate: float, decay: float) -> None:
        first, second = self.moments[name]
        for part in self.masters.parts(name):
            master = with_room(partial(self.masters.open, name, part))
            moments = (first.view(-1)[part], second.view(-1)[part])
            self._adamw([master], [gradient.view(-1)[part]], [moments], rate, decay)
            with_room(partial(self.masters.store, name, master, self.step, part))

    def _adamw(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        moments: list[tuple[Tensor, Tensor]],
        rate: float,
        decay: float,
    ) -> None:
        device = weights[0].device
        steps = [torch.tensor(float(self.step - 1), device=device) for _ in weights]
        with_room(
            lambda: adamw(
                weights,
                gradients,
                [first for first, _ in moments],
                [second for _, second in moments],
                [],
                steps,
                fused=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=rate,
                weight_decay=decay,
                eps=self.eps,
                maximize=False,
            )
        )

    def _decay(self, name: str) -> float:
        decays = self.trained[name].dim() >= 2 and name not in self.no_decay
        return self.weight_decay if decays else 0.0

    def _groups(self, names: list[str]) -> Iterator[tuple[float, float, list[str]]]:
        """Weights of one decay and one factor on the rate."""
        kinds = {name: (self._decay(name), self._rates.get(name, 1.0)) for name in names}
        for decay, factor in sorted(set(kinds.values())):
            yield decay, factor, [name for name in names if kinds[name] == (decay, factor)]

    def clear(self) -> None:
        """Drop all gradients."""
        self._sums.clear()
        for weight in self.trained.values():
            weight.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Optimiser state and remainders of the masters, by name, for a checkpoint."""
        tensors = {f"first/{name}": pair[0] for name, pair in self.moments.items()}
        tensors |= {f"second/{name}": pair[1] for name, pair in self.moments.items()}
        tensors |= self.masters.state_tensors()
        if self.quantised is not None:
            tensors |= self.quantised.state_tensors()
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Continue from the state of a checkpoint made after `step` updates."""
        self.allocate()
        own = self.state_tensors()
        missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
        assert not missing, f"the checkpoint lacks optimiser state {missing[:3]}"
        assert not extra, f"the checkpoint has unknown optimiser state {extra[:3]}"
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        self.step = step
