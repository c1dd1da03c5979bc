"""Files to rows: what a data set name stands for, and the reader for each kind of file.

The kind is taken from the ending of the name, `.gz` allowed behind it; whether JSON is one array
or one object a line is taken from the content.  Everything streams.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from luthier.data.reading import folders, hub
from luthier.data.reading.columnar import arrow_rows
from luthier.data.reading.files import check_file, encoding_error, open_text
from luthier.data.reading.parquet import parquet_rows
from luthier.data.reading.strict_json import json_rows
from luthier.data.reading.tables import csv_rows, quotes_agree, text_rows
from luthier.data.types import BadRow, Row
from luthier.errors import FileAccessError
from luthier.reach import check_reach

ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet", ".arrow")
"""Files that are read; each text file also with `.gz` behind."""

BINARY = (".parquet", ".arrow")
"""Those that hold no text of an encoding."""


def ending(path: Path) -> str:
    """The ending that says what kind of file it is, without `.gz`, in small letters."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


@dataclass(frozen=True)
class Expanded:
    """The files of data sets, and what is said of files that lie beside them."""

    paths: list[Path]
    notices: list[str]


def expand(datasets: Sequence[str], *, fetch: Callable[[str], Path] = hub.fetch) -> list[Path]:
    """The files that data set names stand for, in order; see `survey`."""
    return survey(datasets, fetch=fetch).paths


def survey(datasets: Sequence[str], *, fetch: Callable[[str], Path] = hub.fetch) -> Expanded:
    """The files that data set names stand for, in order, and what was left aside.

    A name is a file, a directory (its data files, also in folders below, hidden ones and links
    that lead out of it excepted), a pattern with `*`, or a hub id `owner/name`.  Which files of a
    directory and of the hub are learned: `luthier.data.reading.folders`.

    Raises:
        FileAccessError: It is none of these, or a directory without data files.
    """
    found = Expanded([], [])
    for name in datasets:
        path = Path(name).expanduser()
        if path.exists():
            check_reach(path)
        if path.is_dir():
            _choose(found, name, path, _inside(path, name, stay=True))
        elif has_magic(name) and not path.exists():
            matching = _matching(name, found.notices)
            for file in matching:
                check_reach(file)
            found.paths.extend(matching)
        elif not path.exists() and not path.is_symlink() and _maybe_hub(name):
            folder = fetch(name)
            _choose(found, name, folder, _inside(folder, name, stay=False))
        else:
            found.paths.append(path)
    return found


def _choose(found: Expanded, name: str, folder: Path, files: list[Path]) -> None:
    chosen = folders.choose(name, folder, files)
    found.paths.extend(chosen.learned)
    found.notices.extend(chosen.notices(name))


def _maybe_hub(name: str) -> bool:
    known = ending(Path(name)) in ENDINGS
    return hub.is_hub_id(name) and not known and not Path(name).parent.is_dir()


def _matching(pattern: str, notices: list[str]) -> list[Path]:
    found = [Path(name) for name in sorted(glob(pattern, recursive=True))]
    found = [file for file in found if file.is_file() and ending(file) in ENDINGS]
    files = [file for file in found if not folders.describes_rows(file)] or found
    if aside := [file.name for file in found if file not in files]:
        notices.append(f"{pattern}: not read, it describes rows: {', '.join(aside[:5])}")
    if not files:
        raise FileAccessError(f"nothing matches {pattern}", fix="look at the folder with ls")
    return files


def _inside(folder: Path, name: str, *, stay: bool) -> list[Path]:
    """Data files of a folder, sorted; links out of it are refused where `stay` is true."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if ending(path) in ENDINGS
        and not path.is_dir()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    root = folder.resolve()
    if stay and (out := [file for file in files if not file.resolve().is_relative_to(root)]):
        raise FileAccessError(
            f"{out[0]} is a link to {out[0].resolve()}, out of {name}",
            why="a directory of data holds its own files",
            fix="name that file itself as a data set",
        )
    if not files:
        raise FileAccessError(
            f"{name} has no data files",
            why=f"files that end in {', '.join(ENDINGS)} are read, also with .gz behind",
            fix=f"look at the folder: ls -R '{folder}'",
        )
    return files


def read_rows(
    path: Path | str, *, encoding: str | None = None, tolerant: bool = False
) -> Iterator[Row | BadRow]:
    """The rows of one file, as a stream; what is JSON but no object comes as a `BadRow`.

    Args:
        encoding: Of the text; None is UTF-8 with or without a byte-order mark.
        tolerant: A line of JSON lines or record of CSV that is malformed is a `BadRow` too.

    Raises:
        FileAccessError, EncodingError, MalformedFileError, LimitError, MissingExtraError: While the
            rows are read, so after rows that were sound.
    """
    path = Path(path)
    kind = ending(path)
    if kind not in ENDINGS:
        check_file(path)
        raise FileAccessError(
            f"{path} has an ending that says nothing about its rows: {path.suffix or 'none'}",
            why=f"files that end in {', '.join(ENDINGS)} are read, also with .gz behind",
            fix="rename or convert it",
        )
    try:
        yield from _rows(path, kind, encoding, tolerant=tolerant)
    except UnicodeDecodeError as error:
        raise encoding_error(path, encoding) from error


def _rows(path: Path, kind: str, encoding: str | None, *, tolerant: bool) -> Iterator[Row | BadRow]:
    name = str(path)
    if kind in BINARY:
        if path.suffix.lower() == ".gz":
            raise FileAccessError(f"{path} is packed twice", fix=f"gunzip '{path}'")
        yield from (parquet_rows if kind == ".parquet" else arrow_rows)(path, name)
    elif kind == ".txt":
        yield from text_rows(path, name, encoding)
    elif kind in (".csv", ".tsv"):
        with open_text(path, encoding, newline="") as stream:
            yield from csv_rows(
                stream,
                name,
                quoted=kind == ".csv" or _quotes_agree(path, encoding),
                tolerant=tolerant,
            )
    else:
        with open_text(path, encoding) as stream:
            yield from json_rows(stream, name, tolerant=tolerant)


def _quotes_agree(path: Path, encoding: str | None) -> bool:
    with open_text(path, encoding, newline="") as stream:
        return quotes_agree(stream, str(path))
