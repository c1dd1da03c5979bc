"""What is said to people, in four languages: codes to sentences with placeholders.

A placeholder may say how its number is written: `{rows:,}`, `{needs:bytes}`, `{share:%}`,
`{tokens:count}`.  Names of settings and commands stay as they are in every language.
"""

import string
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from luthier.bounded import decode
from luthier.languages import LANGUAGES, chosen
from luthier.units import format_bytes, format_count

__all__ = ["LANGUAGES", "catalogue", "text"]


class _Formatter(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        """A number as its placeholder asks for it."""
        if format_spec == "bytes":
            return format_bytes(value)
        if format_spec == "count":
            return format_count(value)
        if format_spec == "%":
            return f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"
        return str(super().format_field(value, format_spec))


@cache
def catalogue(lang: str) -> Mapping[str, str]:
    """All messages of a language, by code.

    Raises:
        UsageError: There is none of that name.
    """
    found: dict[str, str] = decode(
        (files("luthier.advisor") / "messages" / f"{chosen(lang)}.json").read_text("utf-8")
    )
    return found


def text(code: str, params: Mapping[str, Any], lang: str = "en") -> str:
    """A message with its numbers.

    Raises:
        KeyError: No such code, or a number is missing; both are faults of ours.
    """
    named = dict(params)
    if "signal" in named:
        named["signal"] = catalogue(lang)[f"signal.{named['signal']}"]
    return _Formatter().vformat(catalogue(lang)[code], (), named)
