"""The table of batch sizes and lengths as people read it."""

from luthier.cli.drawing.render import line
from luthier.events.sentences import wrapped
from luthier.recipes.before.batches import BatchTable, Cell, columns_shown
from luthier.units import format_bytes, format_duration

MARKS = {"fits": " ", "tight": "!", "no": "x"}
MOST = 4


def show(table: BatchTable) -> None:
    """Peaks by length and batch size, with marks, and the largest batch that fits."""
    shown = columns_shown(table, MOST)
    line("")
    line("per_device_train_batch_size")
    head = f"{'seq_length':>10}{'rows cut':>10}{'an epoch':>12}"
    line(head + "".join(f"{size:>12,}" for size in shown).rstrip())
    for length, cut, cells in zip(table.lengths, table.rows_cut, table.cells, strict=True):
        chosen = [cell for cell in cells if cell.batch in shown]
        line(
            f"{length:>10,}{cut:>10.0%}{format_duration(cells[0].epoch_s):>12}"
            + "".join(f"{_peak(cell, table):>12}" for cell in chosen).rstrip()
        )
    line("")
    line(f"peak of {table.device}, {format_bytes(table.memory_bytes)}; ! tight, x does not fit,")
    line("* the settings as they are; times are for one pass over the rows")
    _largest(table)
    if table.assumption:
        line(wrapped(table.assumption))


def _peak(cell: Cell, table: BatchTable) -> str:
    star = "*" if (cell.seq_length, cell.batch) == table.chosen else " "
    return f"{format_bytes(cell.peak_bytes)}{MARKS[cell.verdict]}{star}"


def _largest(table: BatchTable) -> None:
    most = table.batches[-1]
    for length, size in zip(table.lengths, table.largest, strict=True):
        if size == 0:
            line(f"{length:,} tokens: no batch fits")
        elif size < most:
            line(f"{length:,} tokens: {size} is the largest batch that fits")
    if all(size == most for size in table.largest):
        line(
            wrapped(
                f"every batch up to {most} fits: a step is cut into micro-batches, so that a larger "
                "batch takes more time and no more memory"
            )
        )
