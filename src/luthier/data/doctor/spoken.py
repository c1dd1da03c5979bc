"""A report in another language: the words of the rules, while figures and places stay what they are."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from luthier.bounded import decode_ours
from luthier.data.doctor.rules import RULES

_WORDS = ("title", "why", "fix")


@cache
def words(lang: str) -> Mapping[str, str]:
    """What the doctor says in a language, by `<code>.why` and so on."""
    place = files("luthier.data.doctor") / "messages" / f"{lang}.json"
    found: dict[str, str] = decode_ours(place.read_text("utf-8"))
    return found


def spoken(report: Mapping[str, Any], lang: str) -> dict[str, Any]:
    """A report as of `Report.to_dict` with titles, reasons and remedies in a language.

    A finding says in `lang` which of its words are: what only this file gave rise to stays English.
    """
    if lang == "en":
        return dict(report)
    return {**report, "findings": [_finding(one, lang) for one in report["findings"]]}


def _finding(one: Mapping[str, Any], lang: str) -> dict[str, Any]:
    rule = next(rule for rule in RULES if rule.code == one["code"])
    known = words(lang)
    same = [word for word in _WORDS if one[word] == getattr(rule, word)]
    said = {word: known[f"{rule.code}.{word}"] for word in same}
    return {**one, **said, "lang": dict.fromkeys(said, lang)}
