"""Values of Parquet and Arrow files as JSON would have them, and the rows of Arrow files.

Dates and times become ISO text, decimals text, NaN null; bytes and infinities are refused by
column, because no text says what they are.
"""

import datetime
import decimal
import importlib
import math
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luthier.data.reading.files import check_file
from luthier.data.types import Origin, Row
from luthier.errors import LimitError, LuthierError, MalformedFileError, MissingExtraError

_BATCH_ROWS = 256


def arrow_rows(path: Path, name: str) -> Iterator[Row]:
    """Records of an Arrow file, a stream as `save_to_disk` writes it or a file with a footer.

    Raises:
        MissingExtraError: pyarrow is not installed.
        MalformedFileError: The file is damaged, or holds what is no text, number, truth value, list
            or object.
    """
    arrow = pyarrow_for(path, "an Arrow file")
    ipc = importlib.import_module("pyarrow.ipc")
    try:
        with arrow.memory_map(str(path)) as source:
            footed = source.read(6) == b"ARROW1"
            source.seek(0)
            if footed:
                file = ipc.open_file(source)
                batches = (file.get_batch(k) for k in range(file.num_record_batches))
            else:
                batches = iter(ipc.open_stream(source))
            pieces = (
                b.slice(k, _BATCH_ROWS) for b in batches for k in range(0, len(b), _BATCH_ROWS)
            )
            yield from _rows(pieces, name)
    except failures(arrow) as error:
        raise unreadable(path, "Arrow", error, arrow) from error


def pyarrow_for(path: Path, kind: str) -> Any:
    """The package, for a file of this kind that can be opened.

    Raises:
        MissingExtraError: It is not installed.
    """
    check_file(path)
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise MissingExtraError(
            f"{path} is {kind}, and pyarrow is not installed",
            why="Parquet and Arrow are read by an optional package",
            fix="pip install 'luthier[parquet]', or write JSON lines where the data was made: "
            "dataset.to_json('rows.jsonl')",
        ) from error


def failures(arrow: Any) -> tuple[type[BaseException], ...]:
    """What pyarrow raises for a file: its own types, and Python's where it makes Python values."""
    return (
        *(MemoryError, arrow.lib.ArrowException, OSError, UnicodeDecodeError),
        *(OverflowError, ValueError, ArithmeticError, NotImplementedError),
    )


def unreadable(path: Path, kind: str, error: BaseException, arrow: Any) -> Exception:
    """What pyarrow raised, as an error that names the file; ours as they are."""
    if isinstance(error, LuthierError):
        return error
    if isinstance(error, MemoryError | arrow.lib.ArrowMemoryError):
        return LimitError(f"{path} asks for more memory than there is", why=str(error))
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MalformedFileError(
        f"{path} cannot be read as {kind}: {reason[:300]}",
        why=f"the file is damaged, cut off, or not {kind}",
        fix="copy or download it again",
    )


def _rows(batches: Iterator[Any], name: str) -> Iterator[Row]:
    line = 0
    for batch in batches:
        for record in batch.to_pylist(maps_as_pydicts="strict"):
            line += 1
            origin = Origin(name, line)
            yield Row({key: plain(value, key, origin) for key, value in record.items()}, origin)


def plain(value: Any, column: str, origin: Origin) -> Any:
    """A value as JSON has it; nested nulls left out."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise _no_json(origin, column, "an infinite number")
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        made = {key: plain(inner, column, origin) for key, inner in value.items()}
        return {key: inner for key, inner in made.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [plain(inner, column, origin) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"PT{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "S"
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    raise _no_json(origin, column, "bytes" if isinstance(value, bytes) else type(value).__name__)


def _no_json(origin: Origin, column: str, what: str) -> MalformedFileError:
    return MalformedFileError(
        f"{origin}: the column {column!r} holds {what}",
        why="rows are text, numbers, lists and objects, and no encoding is guessed for bytes",
        fix=f"write {column!r} as text where the file was made, or leave the column out",
    )
