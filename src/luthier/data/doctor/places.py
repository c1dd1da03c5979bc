"""Where rows are, in a few bytes each, and sets of hashes that stay small for a million rows."""

from array import array
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from luthier.data.types import Origin


class Places:
    """File and line of every row by its index: four bytes a row."""

    def __init__(self) -> None:
        self._lines = array("I")
        self._files: list[str] = []
        self._starts: list[int] = []

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, origin: Origin) -> int:
        """Keep a row; its index."""
        if not self._files or self._files[-1] != origin.file:
            self._files.append(origin.file)
            self._starts.append(len(self._lines))
        self._lines.append(origin.line)
        return len(self._lines) - 1

    def __getitem__(self, index: int) -> Origin:
        return Origin(self._files[bisect_right(self._starts, index) - 1], self._lines[index])


class Hashes:
    """64-bit hashes with the index of the row each came from: twelve bytes a row."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._rows = array("I")

    def add(self, digest: int, row: int) -> None:
        """Keep a hash."""
        self._hashes.append(digest)
        self._rows.append(row)

    def repeated(self) -> list[tuple[int, int]]:
        """(row, the first row with the same hash) of every row that repeats one, in order.

        Two different texts fall together with a chance of about n^2 / 2^65: 1 in 36 million for a
        million rows.
        """
        hashes = np.frombuffer(self._hashes, np.uint64)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        new = np.ones(len(ordered), bool)
        new[1:] = ordered[1:] != ordered[:-1]
        first = order[np.flatnonzero(new)][np.cumsum(new) - 1]
        again = np.flatnonzero(~new)
        rows = np.frombuffer(self._rows, np.uint32)
        pairs = sorted(zip(order[again].tolist(), first[again].tolist(), strict=True))
        return [(int(rows[here]), int(rows[there])) for here, there in pairs]

    def among(self, others: NDArray[np.uint64]) -> list[int]:
        """Rows whose hash is one of others."""
        found = np.isin(np.frombuffer(self._hashes, np.uint64), others)
        return [int(row) for row in np.frombuffer(self._rows, np.uint32)[found]]
