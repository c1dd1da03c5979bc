"""A file that another process appends to, line by line: followed as it grows, or from its end."""

from collections.abc import Iterator
from pathlib import Path

CHUNK_BYTES = 4 << 20
MAX_LINE_BYTES = 8 << 20
_BLOCK_BYTES = 64 * 1024


class Tail:
    """New whole lines of a file that only grows.

    A line without its end is given when it has one.  A file that is not there yet has no lines.

    Args:
        path: The file.
        offset: Byte to begin at: the beginning of a line.

    Attributes:
        offset: Byte behind the last whole line that was given.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path, self.offset = path, offset
        self._identity: tuple[int, int] | None = None

    def replaced(self) -> bool:
        """Whether the file is another one than at the last call, or shorter than what was read."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return self._identity is not None
        identity = (status.st_dev, status.st_ino)
        changed = self._identity not in (None, identity) or status.st_size < self.offset
        self._identity = identity
        return changed

    def lines(self) -> Iterator[bytes]:
        """Lines that are complete, without their end; those above `MAX_LINE_BYTES` are left out."""
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            stream.seek(self.offset)
            pieces: list[bytes] = []  # of a line whose end has not come, no more than the limit
            length = 0
            while piece := stream.read(CHUNK_BYTES):
                first, *more = piece.split(b"\n")
                length += len(first)
                if length <= MAX_LINE_BYTES:
                    pieces.append(first)
                if not more:
                    continue
                self.offset += length + 1
                if length <= MAX_LINE_BYTES:
                    yield b"".join(pieces)
                *whole, rest = more
                for line in whole:
                    self.offset += len(line) + 1
                    yield line
                pieces, length = [rest], len(rest)


def backwards(path: Path, before: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file from its end, or from before an offset, each with its offset."""
    try:
        stream = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return
    with stream:
        end = stream.seek(0, 2) if before is None else before
        rest = b""  # the beginning of lines that have been handed out
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            stream.seek(start)
            block = stream.read(end - start) + rest
            pieces = block.split(b"\n")
            rest = pieces[0]
            at = start + len(block)
            for piece in reversed(pieces[1:]):
                at -= len(piece)
                if piece:
                    yield at, piece
                at -= 1
            end = start
        if rest:
            yield 0, rest
