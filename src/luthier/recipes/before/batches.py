"""The largest batch that fits: peak and time for batch sizes and lengths, each planned.

A step is cut into micro-batches of `micro_batch_tokens`, so that a larger batch takes more memory
only until a micro-batch is full; behind that it takes more time a step, and no more memory.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from luthier.gallery import find_model
from luthier.planner.data_shape import DataShape
from luthier.planner.history import learned_runtime, rate_of
from luthier.planner.marks import Verdict
from luthier.planner.plan import Plan, plan
from luthier.planner.shape import Shape
from luthier.recipes.before.planned import PlannedRun

BATCHES = (1, 2, 4, 8, 16, 32, 64)
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
MOST_LENGTHS = 5
OF_MEMORY = ("micro_batch_tokens", "gradient_checkpointing")
"""What a plan chooses anew for each cell, unless somebody has set it."""


@dataclass(frozen=True)
class Cell:
    """One batch size at one length.

    Args:
        seq_length: Longest sequence, in tokens.
        batch: `per_device_train_batch_size`.
        peak_bytes: Of one device.
        verdict: Whether it fits the device.
        epoch_s: Time of one pass over the rows, seconds.
        steps_per_epoch: Optimiser steps of one pass.
        micro_batches: That a step of the largest samples is cut into.
    """

    seq_length: int
    batch: int
    peak_bytes: int
    verdict: Verdict
    epoch_s: float
    steps_per_epoch: int
    micro_batches: int


@dataclass(frozen=True)
class BatchTable:
    """Cells by length, then batch size.

    Args:
        device: Its name.
        memory_bytes: Of one device.
        rows_cut: Share of the rows that a length cuts, 0 to 1, in the order of `lengths`.
        chosen: Length and batch size of the settings as they are.
        largest: The largest batch that fits without being tight, by length; 0 where none does.
        assumption: What was assumed where there are no rows.
    """

    device: str
    memory_bytes: int
    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    rows_cut: tuple[float, ...]
    cells: tuple[tuple[Cell, ...], ...]
    chosen: tuple[int, int]
    largest: tuple[int, ...]
    assumption: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def batch_table(planned: PlannedRun) -> BatchTable:
    """Plan every batch size at every length that changes anything.

    Args:
        planned: Model, rows, device and settings; the cell of these settings is this very plan.
    """
    settings, found = planned.settings, planned.plan
    batch = settings.per_device_train_batch_size
    assert isinstance(batch, int)
    reopened = {name: "auto" for name in OF_MEMORY if name in found.chosen}
    shape = Shape.from_config(planned.config)
    data = planned.data or DataShape.assumed(settings, context=shape.context or None)
    data = replace(data, examples=None)  # lengths alone: dozens of plans in a moment
    known = find_model(settings.model)
    device = found.device
    rate = rate_of(device, found.values.dtype, shape.num_params)
    learned = learned_runtime(device)
    lengths = lengths_to_try(data, limit=min(settings.seq_length, shape.context or 2**31))
    batches = tuple(sorted({*BATCHES, batch}))
    asked = min(settings.seq_length, shape.context or settings.seq_length)
    current = min(
        (length for length in lengths if length >= min(asked, data.longest)), default=lengths[-1]
    )

    def cell(length: int, size: int) -> Cell:
        if (length, size) == (current, batch) and length >= data.longest:
            return _cell(length, size, found, data)
        changed = settings.model_copy(
            update={**reopened, "per_device_train_batch_size": size, "seq_length": length}
        )
        made = plan(
            changed,
            planned.config,
            data.cut_to(length),
            device,
            parameters=known.parameters if known is not None else None,
            rate=rate,
            learned=learned,
            with_changes=False,
        )
        return _cell(length, size, made, data)

    cells = tuple(tuple(cell(length, size) for size in batches) for length in lengths)
    return BatchTable(
        device.name,
        device.memory_bytes,
        lengths,
        batches,
        tuple(float((data.lengths > length).mean()) for length in lengths),
        cells,
        (current, batch),
        tuple(max((one.batch for one in row if one.verdict == "fits"), default=0) for row in cells),
        data.assumption,
    )


def lengths_to_try(data: DataShape, *, limit: int) -> tuple[int, ...]:
    """Lengths up to the first that holds the longest sequence whole, the largest few of them.

    Args:
        limit: Positions of the model, or the length that is set where that is less.
    """
    whole = [length for length in LENGTHS if length < data.longest]
    above = next((length for length in LENGTHS if length >= data.longest), LENGTHS[-1])
    found = [*whole, above]
    return tuple(dict.fromkeys(min(length, limit) for length in found))[-MOST_LENGTHS:]


def _cell(length: int, batch: int, made: Plan, data: DataShape) -> Cell:
    per_epoch = -(-data.samples // made.cut.samples_per_step)
    return Cell(
        length,
        batch,
        made.peak_bytes,
        made.verdict,
        made.seconds[1] * per_epoch / max(1, made.steps),
        per_epoch,
        made.work.micro_batches,
    )


def columns_shown(table: BatchTable, most: int) -> Sequence[int]:
    """Which batch sizes a narrow page shows: the ends, the one that is set, and what lies between."""
    wanted = [table.chosen[1], table.batches[0], table.batches[-1], *table.batches[1:-1][::2]]
    return sorted(dict.fromkeys(wanted[:most]))
