"""Rows of Parquet, within limits of what a small file can claim or grow to.

Texts that repeat are kept once, as the file has them, and the size of rows is computed before they
are made: a file of four kilobytes can hold 256 rows of 100 MiB.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luthier.data.reading.columnar import failures, plain, pyarrow_for, unreadable
from luthier.data.reading.files import check_file
from luthier.data.types import Origin, Row
from luthier.errors import LimitError
from luthier.limits import (
    PARQUET_BATCH_BYTES,
    PARQUET_FREE_BYTES,
    PARQUET_RATIO,
    PARQUET_ROW_BYTES,
    PARQUET_ROWS_FREE,
    ROW_FIELDS,
)
from luthier.units import format_bytes

_BATCH_ROWS = 256


def parquet_rows(path: Path, name: str) -> Iterator[Row]:
    """Records of a Parquet file.

    A nested field that is null counts as absent: Parquet gives every object of a column the same
    fields, and fills those a row did not have with null.

    Raises:
        MissingExtraError: pyarrow is not installed.
        MalformedFileError: The file is damaged or uses a codec that pyarrow does not know.
        LimitError: It claims or grows to more than is read.
    """
    num_bytes = check_file(path).st_size
    arrow = pyarrow_for(path, "Parquet")
    parquet = importlib.import_module("pyarrow.parquet")
    try:
        with parquet.ParquetFile(path) as file:
            _check_claims(file.metadata, path, num_bytes)
            texts = _text_columns(file.metadata)
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            line = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for part in _parts(batch, path, line):
                    for record in part.to_pylist(maps_as_pydicts="strict"):
                        line += 1
                        origin = Origin(name, line)
                        fields = {key: plain(value, key, origin) for key, value in record.items()}
                        yield Row(fields, origin)
    except failures(arrow) as error:
        raise unreadable(path, "Parquet", error, arrow) from error


def _text_columns(metadata: Any) -> list[str]:
    columns = (metadata.schema.column(at) for at in range(metadata.num_columns))
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _check_claims(metadata: Any, path: Path, num_bytes: int) -> None:
    if metadata.num_columns > ROW_FIELDS:
        raise _beyond(f"{path} has {metadata.num_columns:,} columns", f"{ROW_FIELDS:,}")
    if metadata.num_rows > max(PARQUET_ROWS_FREE, num_bytes):
        raise _beyond(
            f"{path} claims {metadata.num_rows:,} rows in {num_bytes:,} bytes",
            f"{PARQUET_ROWS_FREE:,}, or one for each byte of the file,",
        )
    # Of a row group, not of its columns: pyarrow ends the process where a damaged file lacks one.
    grown = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    if grown > max(PARQUET_FREE_BYTES, PARQUET_RATIO * num_bytes):
        raise _beyond(
            f"{path} grows from {format_bytes(num_bytes)} to {format_bytes(grown)}",
            f"{PARQUET_RATIO} times its size",
        )


def _beyond(what: str, most: str) -> LimitError:
    return LimitError(
        what, why=f"at most {most} are read", fix="write it again with the columns that are needed"
    )


def _parts(batch: Any, path: Path, line: int) -> Iterator[Any]:
    """The rows of a batch in pieces that fit into memory."""
    size = sum(_materialised(column) for column in batch.columns)
    if size <= PARQUET_BATCH_BYTES and batch.num_rows > 1:
        yield batch
    elif batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from _parts(batch.slice(0, half), path, line)
        yield from _parts(batch.slice(half), path, line + half)
    elif size > PARQUET_ROW_BYTES:
        raise LimitError(
            f"{path} row {line + 1} is {format_bytes(size)} long",
            why=f"one row has at most {format_bytes(PARQUET_ROW_BYTES)}",
            fix="split the row",
        )
    else:
        yield batch


def _materialised(array: Any) -> int:
    """Bytes that the values of an array take once each is a value of its own."""
    arrow = importlib.import_module("pyarrow")
    compute = importlib.import_module("pyarrow.compute")
    kind = array.type
    if arrow.types.is_dictionary(kind):
        lengths = compute.binary_length(array.dictionary)
        return int(compute.sum(lengths.take(array.indices)).as_py() or 0) + 8 * len(array)
    if arrow.types.is_string(kind) or arrow.types.is_binary(kind):
        return int(compute.sum(compute.binary_length(array)).as_py() or 0) + 8 * len(array)
    if arrow.types.is_struct(kind):
        return sum(map(_materialised, array.flatten())) + 8 * len(array)
    if arrow.types.is_map(kind):
        inner = array.slice(0, len(array))
        return _materialised(inner.keys) + _materialised(inner.items) + 8 * len(array)
    if arrow.types.is_list(kind) or arrow.types.is_large_list(kind):
        return _materialised(array.flatten()) + 8 * len(array)
    return int(array.nbytes) + 8 * len(array)
