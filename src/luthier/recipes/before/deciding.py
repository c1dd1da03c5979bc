"""Where what a run does is decided: every value that was left open, and what it will take.

`luthier plan` shows what comes from here; `luthier train` trains with it.  The adapter that training
starts from decides first, then the card of the model, then data and memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from luthier.config.read import Resolved
from luthier.config.settings import Settings
from luthier.gallery import find_model
from luthier.planner.choose import choose_dtype
from luthier.planner.data_shape import DataShape
from luthier.planner.device import Device
from luthier.planner.history import learned_runtime, rate_of
from luthier.planner.plan import Plan, plan
from luthier.planner.shape import Shape


@dataclass(frozen=True, slots=True)
class Decided:
    """Settings with nothing left open, and the plan that decided them.

    Args:
        resolved: Each value with where it came from.
        plan: What the run will take; its `chosen` has every value that nobody gave.
    """

    resolved: Resolved
    plan: Plan

    @property
    def settings(self) -> Settings:
        """Nothing in them is `auto` or None that a run needs."""
        return self.resolved.settings

    @property
    def learning_rate(self) -> float:
        """At its peak."""
        return self.plan.values.learning_rate

    @property
    def epochs(self) -> float:
        """Passes over the data, where `max_steps` does not end them."""
        return self.plan.values.epochs

    @property
    def dtype(self) -> str:
        """Of compute, by name."""
        return self.plan.values.dtype

    @property
    def samples_per_step(self) -> int:
        """Of an optimiser step, over all devices."""
        return self.plan.cut.samples_per_step

    @property
    def micro_batch_tokens(self) -> int:
        """Most tokens at once on a device."""
        return self.plan.cut.micro_batch_tokens

    @property
    def share(self) -> bool:
        """Whether what several sequences begin with is computed once."""
        return self.plan.cut.share


def decide(
    resolved: Resolved,
    config: Mapping[str, Any],
    data: DataShape | None,
    device: Device,
    *,
    notes: tuple[str, ...] = (),
) -> Decided:
    """Decide what is open.

    Args:
        resolved: After the starting adapter and the model's card, which decide before.
        config: The base's `config.json`, or the gallery's excerpt of it.
        data: Lengths of the rows; None assumes the worst that the settings allow.
        device: That the run is for.
        notes: What the plan rests on, besides its own assumptions.

    Raises:
        DeviceError: The device has no numbers of the type that was asked for.
    """
    settings = resolved.settings
    known = find_model(settings.model)
    dtype, _ = choose_dtype(settings.torch_dtype, device)
    found = plan(
        settings,
        config,
        data,
        device,
        parameters=known.parameters if known is not None else None,
        rate=rate_of(device, dtype, Shape.from_config(config).num_params),
        learned=learned_runtime(device),
    )
    resolved = resolved.fill(**found.chosen)
    chosen = {**resolved.decided(), **found.chosen}
    return Decided(resolved, replace(found, chosen=chosen, notes=[*notes, *found.notes]))
