"""How many tokens a text will have, for a tokenizer that is not at hand.

A tokenizer's count is nearly linear in how many characters of each kind a text has.  The weights in
`token_rates.json` were fitted by `bench/token_rates.py`, which also wrote the error it found on
files that were left out of the fit.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.bounded import decode

_WORD = re.compile(r"[A-Za-z]+")
_ENGLISH = """the of and to in is that for it as was with be by on not he his but at are this have from or an
    they which one you were her all she there would their we him been has when who will more no if
    out so said what up its about into than them can only other new some could time these two may
    then do first any my now such like our over me even most made after also did many i a your how"""
_COMMON = frozenset(_ENGLISH.split())
ENGLISH_SHARE = 0.2
"""Tokenizers cut English words into fewer pieces.  A text is taken for English if this share of its
words is among the hundred most frequent: about 0.45 of English prose, below 0.1 of Indonesian."""

_KINDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"[0-9]",
        r"[!-/:-@\[-`{-~]",
        r"\s{2,}|\n",
        r"[\u00c0-\u024f\u1e00-\u1eff]",  # letters with marks: Vietnamese, French ...
        r"[\u3000-\u9fff\uac00-\ud7af\uff00-\uffef]",  # Chinese, Japanese, Korean and their marks
        r"[^\x00-\x7f\u00c0-\u024f\u1e00-\u1eff\u3000-\u9fff\uac00-\ud7af\uff00-\uffef]",
    )
)
PER_MESSAGE = 5
"""Tokens a template adds to a message: ChatML has 5, Llama 3 has 5, Llama 2 about 4."""


@dataclass(frozen=True, slots=True)
class Rates:
    """One tokenizer's weights.

    Args:
        same: Whether it is the tokenizer that was asked for, not only the nearest in size.
        mean_error: Mean error of a file's total, as a share, on files left out of the fit.
        worst_error: The largest of them.
    """

    name: str
    weights: NDArray[np.float64]
    same: bool
    mean_error: float
    worst_error: float

    def tokens(self, text: str) -> float:
        """Estimated tokens of a text, at least 0."""
        return max(0.0, float(features(text) @ self.weights))


def features(text: str) -> NDArray[np.float64]:
    """What the count is linear in: words and letters of English and of other text, then a number for
    each further kind of character."""
    words = _WORD.findall(text)
    letters = sum(map(len, words))
    common = sum(word.lower() in _COMMON for word in words)
    ascii_words = [len(words), letters]
    english = common >= ENGLISH_SHARE * len(words)
    split = [*ascii_words, 0, 0] if english else [0, 0, *ascii_words]
    return np.array([*split, *(len(kind.findall(text)) for kind in _KINDS)], np.float64)


def rates_for(vocab_size: int) -> Rates:
    """The weights for a vocabulary of this size, or of the nearest one, by the logarithm."""
    known = _known()

    def distance(name: str) -> float:
        sizes: list[int] = known[name]["vocab_sizes"]
        return min(abs(math.log(vocab_size / size)) for size in sizes)

    name = min(known, key=distance)
    found = known[name]
    return Rates(
        name,
        np.array(found["weights"], np.float64),
        vocab_size in found["vocab_sizes"],
        found["mean_error"],
        found["worst_error"],
    )


@cache
def _known() -> dict[str, dict[str, Any]]:
    text = (files("luthier.data.tokens") / "token_rates.json").read_text("utf-8")
    return {name: dict(entry) for name, entry in decode(text).items()}
