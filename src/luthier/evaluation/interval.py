"""Intervals of 95 % around figures that are means over rows.

n: rows.  Rows are what is drawn at random, and taken to be independent; tokens of a row are not.

A figure is a ratio of two sums over rows (nats by tokens, right answers by rows), so one estimator
serves all but proportions, whose rows say only yes or no.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
"""Share of intervals that hold the truth, over many samples of rows."""

_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
_LARGE = 500  # degrees of freedom from which Student's t is the normal distribution here
Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """A figure with the values that agree with the rows seen.

    Attributes:
        value: The estimate.
        low: Lower end; minus infinity where so few rows say nothing.
        high: Upper end.
        method: How it was made.
    """

    value: float
    low: float
    high: float
    method: str

    def through(self, change: Callable[[float], float]) -> "Interval":
        """The interval of an increasing function of the figure."""
        return Interval(change(self.value), change(self.low), change(self.high), self.method)

    def within(self, least: float, most: float) -> "Interval":
        """Cut to the values that are possible."""
        return self._replace(low=max(least, self.low), high=min(most, self.high))


def ratio_interval(sums: ArrayLike, weights: ArrayLike) -> Interval:
    """Interval of the sum of `sums` by the sum of `weights`, from the scatter between rows.

    The variance is that of the residuals `sum - ratio * weight` of the rows (linearisation), the
    quantile is Student's t with n - 1 degrees of freedom.

    Args:
        sums: Of each row, (n,).
        weights: Of each row, (n,), >= 0, with a positive sum.

    Source: Cochran 1977, Sampling Techniques, 3rd edition, eq. 6.13; rows as the clusters of their
    tokens as in Miller 2024, https://arxiv.org/abs/2411.00640, section 2.2.
    """
    sum_n, weight_n = _floats(sums), _floats(weights)
    total = float(weight_n.sum())
    ratio = float(sum_n.sum()) / total
    count = int(np.count_nonzero(weight_n))
    method = f"Student's t over {count:,} rows"
    if count < 2:
        return Interval(ratio, -math.inf, math.inf, method)
    residual_n = sum_n - ratio * weight_n
    spread = math.sqrt(float(residual_n @ residual_n) * count / (count - 1)) / total
    half = student_quantile(count - 1) * spread
    return Interval(ratio, ratio - half, ratio + half, method)


def wilson_interval(right: float, rows: int) -> Interval:
    """Interval of a proportion; `right` may hold halves, where a tie counts for both sides.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    share, shrink = right / rows, _Z**2 / rows
    middle = (share + shrink / 2) / (1 + shrink)
    half = _Z / (1 + shrink) * math.sqrt(share * (1 - share) / rows + shrink / (4 * rows))
    low = middle - half if right > 0 else 0.0
    high = middle + half if right < rows else 1.0
    return Interval(share, low, high, f"Wilson over {rows:,} rows")


def paired_proportions(one: ArrayLike, other: ArrayLike) -> Interval:
    """Interval of the share of `other` less that of `one` on the same rows, each 0 or 1.

    Only rows in which the two differ say anything; one is added to either kind of them, so that an
    interval is never of no width.

    Source: Bonett and Price 2012, https://doi.org/10.3102/1076998611411915, eq. 4.
    """
    difference_n = _floats(other) - _floats(one)
    count = len(difference_n)
    gained = (float((difference_n > 0).sum()) + 1) / (count + 2)
    lost = (float((difference_n < 0).sum()) + 1) / (count + 2)
    middle = gained - lost
    half = _Z * math.sqrt((gained + lost - middle**2) / (count + 2))
    method = f"Bonett and Price over {count:,} pairs of rows"
    return Interval(
        float(difference_n.mean()), max(-1.0, middle - half), min(1.0, middle + half), method
    )


def paired_ratios(one: ArrayLike, other: ArrayLike, weights: ArrayLike) -> Interval:
    """Interval of the ratio of `other` less that of `one`, over the same rows and weights."""
    found = ratio_interval(_floats(other) - _floats(one), weights)
    return found._replace(method=f"paired: {found.method}")


@lru_cache(maxsize=1024)
def student_quantile(freedom: int) -> float:
    """The value that Student's t stays below in 97.5 % of cases; `freedom` >= 1.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4, solved by halving.
    """
    if freedom >= _LARGE:
        return _Z + (_Z**3 + _Z) / (4 * freedom)  # 26.7.5, its first terms
    low, high = 0.0, 16.0
    while _between(high, freedom) < LEVEL:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _between(middle, freedom) < LEVEL else (low, middle)
    return (low + high) / 2


def _between(t: float, freedom: int) -> float:
    """Probability that Student's t lies between -t and t."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for number in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine**2 * (number - 1) / number
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
