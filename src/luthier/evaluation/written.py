"""Written answers against those of the rows: exact, numeric, ROUGE-L, chrF."""

import importlib.util
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from luthier.errors import MissingExtraError

Compare = Callable[[str, str], float]
"""From the expected and the written answer to a figure."""

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?<![\w.])[-+]?\.\d+")
_MARKED = re.compile(r"####[^\S\n]*([^\n]*)")
_SPACE = re.compile(r"\s+")
_ALONE = (
    "CJK ", "HIRAGANA", "KATAKANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ",
)  # fmt: skip
"""Scripts that put no space between words: each character is a word here."""


def number_of(text: str) -> Decimal | None:
    """The number that an answer comes to: behind the last `####`, or the last of the text.

    Thousands may be set off by commas; what is no number, units and signs of currency included, is
    left aside.

    Source: the form of GSM8K (Cobbe et al. 2021, https://arxiv.org/abs/2110.14168), and the
    "flexible" reading that evaluations of chat models use: without the mark the last number counts.
    """
    text = unicodedata.normalize("NFKC", text).replace("\u2212", "-").replace("\uff0d", "-")
    marked = _MARKED.findall(text)
    found = _NUMBER.findall(marked[-1]) if marked else []
    found = found[:1] or _NUMBER.findall(text)[-1:]
    return Decimal(found[0].replace(",", "")) if found else None


def numeric(expected: str, answer: str) -> float:
    """Whether both come to the same number."""
    right, given = number_of(expected), number_of(answer)
    return float(right is not None and right == given)


def exact(expected: str, answer: str) -> float:
    """Whether both are the same text, but for case, spacing, width and a final full stop."""
    return float(_plain(expected) == _plain(answer))


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _SPACE.sub(" ", folded).strip().removesuffix(".").removesuffix("。").rstrip()


class Words:
    """Words of any script, for a scorer whose own tokenizer knows only a to z and digits."""

    def tokenize(self, text: str) -> list[str]:
        """Words in small letters; each character where a script has no spaces."""
        found: list[str] = []
        word = ""
        for char in unicodedata.normalize("NFKC", text).casefold():
            inside = unicodedata.category(char)[0] in "LMN"
            if inside and not unicodedata.name(char, "").startswith(_ALONE):
                word += char
                continue
            found += [word] * bool(word) + [char] * inside
            word = ""
        return found + [word] * bool(word)


def rouge_l() -> Compare:
    """F-measure of ROUGE-L, 0 to 1, by Google's `rouge-score` with words of every script.

    Source: Lin 2004, https://aclanthology.org/W04-1013.
    """
    _require("rouge_score", "ROUGE-L")
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    return lambda expected, answer: float(scorer.score(expected, answer)["rougeL"].fmeasure)


def chrf() -> Compare:
    """chrF2 of one answer, 0 to 100, by `sacrebleu` (6 characters, no words).

    Source: Popovic 2015, https://aclanthology.org/W15-3049.
    """
    _require("sacrebleu", "chrF")
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    return lambda expected, answer: float(scorer.sentence_score(answer, [expected]).score)


WRITTEN: Mapping[str, Callable[[], Compare]] = {
    "numeric": lambda: numeric,
    "exact": lambda: exact,
    "rouge_l": rouge_l,
    "chrf": chrf,
}
"""By metric: makes what compares."""

SHORT_CHARS = 40
"""Longest expected answer that can be asked for word by word."""


def found_metrics(expected: Sequence[str]) -> tuple[str, ...]:
    """The metrics that answers of these rows call for: numbers, short answers, or none."""
    if not expected:
        return ()
    if all(_MARKED.search(text) and number_of(text) is not None for text in expected):
        return ("numeric",)
    if all(len(text) <= SHORT_CHARS and "\n" not in text.strip() for text in expected):
        return ("exact",)
    return ()


def _require(package: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(
            f"{what} needs {package.replace('_', '-')}",
            why="what compares long texts is an extra, so that training alone stays small",
            fix="pip install 'luthier[eval]'",
        )
