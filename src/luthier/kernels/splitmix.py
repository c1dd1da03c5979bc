"""A hash of 64-bit numbers, the same on every device: random numbers that need no generator's state.

Source: SplitMix64, Steele et al. 2014, https://doi.org/10.1145/2660193.2660195.
"""

from torch import Tensor

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
SECOND = -7723592293110705685  # 0x94D049BB133111EB


def signed(number: int) -> int:
    """A number modulo 2^64, between -2^63 and 2^63 - 1."""
    return (number + 2**63) % 2**64 - 2**63


def mix(x: Tensor) -> Tensor:
    """The next number after each of `x`, int64."""
    return scramble(x + GOLDEN)


def scramble(x: Tensor) -> Tensor:
    """The finaliser, in place on int64: products wrap, shifts are made logical."""
    x ^= (x >> 30) & (2**34 - 1)
    x *= FIRST
    x ^= (x >> 27) & (2**37 - 1)
    x *= SECOND
    x ^= (x >> 31) & (2**33 - 1)
    return x
