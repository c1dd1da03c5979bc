"""Figures of a run by step, in columns, thinned as they grow: any length fits in a few megabytes.

A bucket is a stretch of consecutive points.  It keeps its first and last x and, of every series,
the smallest and the largest value and which came first, so that no spike is lost however much is
thinned; a chart gets two points a bucket.  Series share their x, as uPlot needs it.
"""

import math
from array import array
from collections.abc import Mapping

MAX_BUCKETS = 8192
NOTHING = math.nan


class FigureColumns:
    """Points in ascending x, with any number of named series.

    Args:
        max_buckets: When there are more, neighbours are merged, two by two; even, at least 4.
    """

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max = max_buckets
        self._width = 1  # points a full bucket stands for
        self._first, self._last, self._count = array("d"), array("d"), array("q")
        self._low: dict[str, array[float]] = {}
        self._high: dict[str, array[float]] = {}
        self._rising: dict[str, bytearray] = {}  # 1: the smallest came first
        self.total = 0
        self._latest: dict[str, float] = {}

    @property
    def exact(self) -> bool:
        """Whether every point is still there by itself."""
        return self._width == 1

    @property
    def last_x(self) -> float:
        """The x of the last point; minus infinity without one."""
        return self._last[-1] if self._last else -math.inf

    def add(self, x: float, values: Mapping[str, object]) -> None:
        """One point; what is no finite number is a gap."""
        if not self._count or self._count[-1] >= self._width:
            if len(self._count) >= self._max:
                self._halve()
            if not self._count or self._count[-1] >= self._width:
                self._new_bucket(x)
        self._last[-1] = x
        self._count[-1] += 1
        self.total += 1
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._put(name, float(value))

    def _new_bucket(self, x: float) -> None:
        self._first.append(x)
        self._last.append(x)
        self._count.append(0)
        for name, low in self._low.items():
            low.append(NOTHING)
            self._high[name].append(NOTHING)
            self._rising[name].append(1)

    def _put(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            return
        if name not in self._low:
            empty = [NOTHING] * len(self._count)
            self._low[name], self._high[name] = array("d", empty), array("d", empty)
            self._rising[name] = bytearray(b"\1" * len(self._count))
        low, high = self._low[name], self._high[name]
        if math.isnan(low[-1]):
            low[-1] = high[-1] = value
        elif value > high[-1]:
            high[-1] = value
            self._rising[name][-1] = 1
        elif value < low[-1]:
            low[-1] = value
            self._rising[name][-1] = 0
        self._latest[name] = value

    def _halve(self) -> None:
        """Merge neighbours; a last one without a partner stays."""
        size = len(self._count)
        pairs = range(0, size - 1, 2)
        odd = size % 2
        for name in self._low:
            merged = [self._merged(name, left) for left in pairs]
            if odd:
                merged.append((self._low[name][-1], self._high[name][-1], self._rising[name][-1]))
            self._low[name] = array("d", [low for low, _, _ in merged])
            self._high[name] = array("d", [high for _, high, _ in merged])
            self._rising[name] = bytearray(rising for _, _, rising in merged)
        self._first = array("d", self._first[::2])
        lasts = list(self._last[1::2]) + list(self._last[-1:] if odd else [])
        counts = [self._count[left] + self._count[left + 1] for left in pairs]
        self._count = array("q", counts + list(self._count[-1:] if odd else []))
        self._last = array("d", lasts)
        self._width *= 2

    def _merged(self, name: str, left: int) -> tuple[float, float, int]:
        low, high, rising = self._low[name], self._high[name], self._rising[name]
        first, second = (low[left], high[left]), (low[left + 1], high[left + 1])
        if math.isnan(second[0]):
            return first[0], first[1], rising[left]
        if math.isnan(first[0]):
            return second[0], second[1], rising[left + 1]
        from_left_low, from_left_high = first[0] <= second[0], first[1] >= second[1]
        if from_left_low and from_left_high:
            order = rising[left]
        elif from_left_low or from_left_high:
            order = int(from_left_low)
        else:
            order = rising[left + 1]
        return min(first[0], second[0]), max(first[1], second[1]), order

    def read(self, points: int) -> tuple[list[float], dict[str, list[float | None]]]:
        """At most about `points` points: x, and every series with null where it has a gap.

        The first and the last point are always themselves.
        """
        size = len(self._count)
        if self.exact and size <= points:
            series = {name: _plain(low) for name, low in self._low.items()}
            return list(self._first), series
        view = self
        if size > max(1, points // 2):
            view = self._thinned(-(-size // max(1, points // 2)))
        xs = [x for pair in zip(view._first, view._last, strict=True) for x in pair]
        series = {name: view._pairs(name) for name in view._low}
        for name, value in self._latest.items():
            if series[name][-1] is not None:
                series[name][-1] = value
        return xs, series

    def _pairs(self, name: str) -> list[float | None]:
        result: list[float | None] = []
        columns = zip(self._low[name], self._high[name], self._rising[name], strict=True)
        for low, high, rising in columns:
            if math.isnan(low):
                result += (None, None)
            else:
                result += (low, high) if rising else (high, low)
        return result

    def _thinned(self, group: int) -> "FigureColumns":
        """A copy in which every `group` buckets are one."""
        copy = FigureColumns(self._max)
        copy._first, copy._last = self._first[:], self._last[:]
        copy._count, copy._width = self._count[:], self._width
        copy._low = {name: column[:] for name, column in self._low.items()}
        copy._high = {name: column[:] for name, column in self._high.items()}
        copy._rising = {name: column[:] for name, column in self._rising.items()}
        while group > 1:
            copy._halve()
            group = -(-group // 2)
        return copy


def _plain(column: "array[float]") -> list[float | None]:
    return [None if math.isnan(value) else value for value in column]
