"""Bytes and text of a data file, within limits: plain files only, gzip bounded, encodings strict.

Everything streams; nothing here holds more than one buffer.
"""

import codecs
import errno
import gzip
import io
import os
import stat
import zlib
from pathlib import Path
from typing import IO, NamedTuple, TextIO

from luthier.data.reading.encodings import Candidate, candidates, marked_encoding
from luthier.errors import (
    EncodingError,
    FileAccessError,
    LimitError,
    LuthierError,
    MalformedFileError,
)
from luthier.limits import GZIP_BYTES, GZIP_RATIO, ROW_CHARS
from luthier.units import MIB, format_bytes

MAX_LINE_CHARS = ROW_CHARS
"""The longest line, record or array element read; a row of training data is far below it."""

_FREE_GZIP_BYTES = 16 * MIB  # below this the ratio says nothing

_SPECIAL_FOLDERS = ("/dev", "/proc", "/sys")
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
_SIGNATURES = {
    b"\x1f\x8b": ("gzip", "rename it so that it ends in .gz, for example rows.jsonl.gz"),
    b"PK\x03\x04": ("a zip archive", "unpack it: unzip FILE"),
    b"PAR1": ("Parquet", "rename it so that it ends in .parquet"),
    b"\x28\xb5\x2f\xfd": ("zstandard", "unpack it: zstd -d FILE"),
    b"BZh": ("bzip2", "unpack it: bunzip2 FILE"),
    b"\xfd7zXZ\x00": ("xz", "unpack it: unxz FILE"),
    b"ARROW1": ("an Arrow file", "write it as Parquet or JSONL"),
}


def check_file(path: Path) -> os.stat_result:
    """The state of a plain, readable file.

    Raises:
        FileAccessError: It is missing, a dangling or looping link, a device, a pipe, a socket, a
            directory, below /proc, /sys or /dev, or may not be read.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise _access_error(path, error) from error
    kind = _KINDS.get(stat.S_IFMT(state.st_mode))
    if kind is None and str(path.resolve()).startswith(tuple(f"{f}/" for f in _SPECIAL_FOLDERS)):
        kind = "a file of the operating system"
    if kind is not None:
        raise FileAccessError(
            f"{path} is {kind}", why="data is read from plain files", fix="give a file of rows"
        )
    return state


def _access_error(path: Path, error: OSError) -> FileAccessError:
    if error.errno == errno.ELOOP:
        return FileAccessError(f"{path} is a link that leads back to itself", fix="give the file")
    if error.errno == errno.ENOENT and path.is_symlink():
        return FileAccessError(
            f"{path} is a link to {os.readlink(path)}, which does not exist", fix="give the file"
        )
    if error.errno == errno.ENOENT:
        return FileAccessError(f"{path} does not exist", fix=_nearest(path))
    reason = os.strerror(error.errno) if error.errno else str(error)
    return FileAccessError(f"{path} cannot be read: {reason}", fix=f"chmod u+r '{path}'")


def _nearest(path: Path) -> str:
    """What might have been meant: names beside the missing one."""
    from difflib import get_close_matches

    folder = path.parent
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    if close := get_close_matches(path.name, names, n=3, cutoff=0.6):
        return "did you mean " + " or ".join(str(folder / name) for name in close) + "?"
    return f"look at the folder: ls '{folder}'"


class _BoundedGzip(io.RawIOBase):
    """A gzip stream that stops where it has grown beyond reason."""

    def __init__(self, path: Path, packed: IO[bytes]) -> None:
        self._path, self._packed = path, packed
        self._plain = gzip.GzipFile(fileobj=packed)
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            chunk = self._plain.read(min(len(buffer), MIB))
        except EOFError as error:
            raise MalformedFileError(
                f"{self._path} ends in the middle of its gzip stream",
                why="the file looks truncated",
                fix="copy or download it again; gzip -t FILE checks it",
            ) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise MalformedFileError(
                f"{self._path} is not a sound gzip file: {error}", fix="gzip -t FILE checks it"
            ) from error
        self._size += len(chunk)
        ratio = self._size / max(1, self._packed.tell())
        if self._size > _FREE_GZIP_BYTES and (ratio > GZIP_RATIO or self._size > GZIP_BYTES):
            raise LimitError(
                f"{self._path} grows {ratio:,.0f} times when unpacked",
                why=f"at most {GZIP_RATIO} times and {format_bytes(GZIP_BYTES)} are read",
                fix="unpack it and look at it: gzip -dk FILE",
            )
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._packed.close()
        super().close()


def open_bytes(path: Path) -> IO[bytes]:
    """A buffered stream of the file's bytes, unpacked where the name ends in .gz.

    Raises:
        FileAccessError: See `check_file`; or the bytes are those of another kind of file.
    """
    check_file(path)
    try:
        raw: IO[bytes] = path.open("rb")
    except OSError as error:
        raise _access_error(path, error) from error
    if path.suffix.lower() == ".gz":
        raw = io.BufferedReader(_BoundedGzip(path, raw), MIB)
    _check_signature(path, raw)
    return raw


def _check_signature(path: Path, raw: IO[bytes]) -> None:
    try:
        start = raw.peek(8)[:8]  # type: ignore[attr-defined]
    except LuthierError:
        raw.close()
        raise
    for signature, (kind, fix) in _SIGNATURES.items():
        if start.startswith(signature):
            raw.close()
            inside = "its content" if path.suffix.lower() == ".gz" else "it"
            raise FileAccessError(
                f"{path} is not what its name says: {inside} is {kind}",
                why="a file is read by the ending of its name; archives inside archives are not",
                fix=fix,
            )


def open_text(path: Path, encoding: str | None, *, newline: str | None = None) -> TextIO:
    """The file as text: UTF-8 with or without a byte-order mark, or the encoding named.

    Decoding is strict.  A `UnicodeDecodeError` that comes while reading is to be turned into
    `encoding_error(path, encoding)`, which finds the line.

    Raises:
        EncodingError: The name is not an encoding of text, or the file is UTF-16 or
            UTF-32 and none is named.
    """
    raw = open_bytes(path)
    start = raw.peek(4)[:4]  # type: ignore[attr-defined]
    if encoding is None and (wide := _wide(start)):
        raw.close()
        raise EncodingError(
            f"{path} is {wide[0].upper()}, not UTF-8", why=wide[1], fix=f"--encoding {wide[0]}"
        )
    codec = encoding or "utf-8"
    try:
        if codecs.lookup(codec).name == "utf-8" and start.startswith(codecs.BOM_UTF8):
            codec = "utf-8-sig"
        return io.TextIOWrapper(raw, encoding=codec, errors="strict", newline=newline)
    except LookupError as error:
        raw.close()
        raise EncodingError(
            f"encoding {encoding!r} is not known",
            why="it is not the name of an encoding of text",
            fix="--encoding utf-8, or gb18030, cp1252, shift_jis, utf-16",
        ) from error


def _wide(start: bytes) -> tuple[str, str] | None:
    """UTF-16 or UTF-32 and how it shows: by its mark, or by NULs beside a letter."""
    if name := marked_encoding(start):
        return name, "its first bytes are the mark of that encoding"
    zeros = tuple(byte == 0 for byte in start)
    shapes: dict[tuple[bool, ...], str] = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }
    found = shapes.get(zeros)
    return (found, "its first letters stand beside NULs, as in that encoding") if found else None


def encoding_error(path: Path, encoding: str | None) -> EncodingError:
    """Where the file stops being text in that encoding, and what it may be instead: one stray byte
    in good UTF-8, or text in another encoding, whose candidates are shown on a line of it."""
    codec = encoding or "utf-8"
    line, reason = _first_bad_line(path, codec)
    if codecs.lookup(codec).name == "utf-8" and (stray := _stray(path)):
        return _stray_error(path, stray)
    what = f"{path} line {line} is not {codec.upper()}"
    if not (found := likely_encodings(path)):
        return EncodingError(
            what, why=reason, fix="--encoding NAME, with the encoding it was written in"
        )
    names = " or ".join(one.encoding for one in found)
    if is_certain(path):
        return EncodingError(
            f"{path} is {names.upper()}, not {codec.upper()}",
            why="its first bytes are the mark of that encoding",
            fix=f"--encoding {names}",
        )
    return EncodingError(
        f"{what}; it may be {names}, which is a guess",
        why=f"{reason}; how its text would read: " + "; ".join(map(str, found)),
        fix="--encoding NAME, with the one that reads right: "
        + ", ".join(one.encoding for one in found),
    )


class _Stray(NamedTuple):
    """Bad bytes in a file that is UTF-8 otherwise: the lines, and the first of the bytes."""

    lines: list[int]
    byte: int
    position: int
    text: str


def _stray(path: Path) -> _Stray | None:
    """The bad bytes, where nine in ten of the lines with bytes beyond ASCII are good UTF-8."""
    good = 0
    bad: list[int] = []
    first: tuple[int, int, str] | None = None
    with open_bytes(path) as raw:
        number = 0
        while line := raw.readline(MAX_LINE_CHARS):
            number += 1
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                good += 1
            except UnicodeDecodeError as error:
                bad.append(number)
                shown = line[max(0, error.start - 24) : error.start + 24]
                first = first or (
                    line[error.start],
                    error.start + 1,
                    shown.decode("utf-8", "replace"),
                )
    if first is None or good < 9 * len(bad):
        return None
    return _Stray(bad, *first)


def _stray_error(path: Path, stray: _Stray) -> EncodingError:
    number, byte = stray.lines[0], stray.byte
    others = f" (and {len(stray.lines) - 1} more lines)" if len(stray.lines) > 1 else ""
    shown = " ".join(stray.text.split())
    fix = f"mend line {number} alone, or take it out: sed -i.bak '{number}d' '{path}'"
    meant = bytes([byte]).decode("cp1252", "ignore")
    if meant and meant.isprintable():
        utf8 = "".join(f"\\x{b:02x}" for b in meant.encode())
        fix = (
            f"mend line {number} alone: if {meant} was meant (the byte in cp1252), "
            f"LC_ALL=C sed -i.bak '{number}s/\\x{byte:02x}/{utf8}/' '{path}'"
        )
    return EncodingError(
        f"{path} line {number}{others} is not UTF-8, the rest of the file is",
        why=f"byte 0x{byte:02x} at position {stray.position}: {shown}",
        fix=fix,
    )


def _first_bad_line(path: Path, codec: str) -> tuple[int, str]:
    if codecs.lookup(codec).name.startswith(("utf-16", "utf-32")):
        return 1, f"the bytes are not valid {codec}"
    with open_bytes(path) as raw:
        number = 0
        while line := raw.readline(MAX_LINE_CHARS):
            number += 1
            try:
                line.decode(codec)
            except UnicodeDecodeError as error:
                if not line.endswith(b"\n") and error.end == len(line):
                    return number, "the last character is incomplete: the file looks truncated"
                return number, f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
    return max(number, 1), f"the bytes are not valid {codec}"


def likely_encodings(path: Path) -> list[Candidate]:
    """What a file that is not UTF-8 may be, likeliest first; empty where it is, as far as 4 MiB go."""
    with open_bytes(path) as raw:
        sample = raw.read(4 * MIB)
    if not marked_encoding(sample) and b"\0" not in sample[:4096] and _is_utf8(sample):
        return []
    return candidates(sample)


def guess_encoding(path: Path) -> str | None:
    """The first of the candidates, to look at rows with and never to write any."""
    return next((one.encoding for one in likely_encodings(path)), None)


def is_certain(path: Path) -> bool:
    """Whether the file begins with a mark of UTF-16 or UTF-32 and decodes by it to its end."""
    with open_bytes(path) as raw:
        if (name := marked_encoding(raw.peek(4)[:4])) is None:  # type: ignore[attr-defined]
            return False
        decoder = codecs.getincrementaldecoder(name)()
        try:
            while chunk := raw.read(MIB):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _is_utf8(sample: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(sample, final=False)
    except UnicodeDecodeError:
        return False
    return True
