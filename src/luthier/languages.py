"""Languages that luthier speaks: en, zh, id, vi, under the names that systems and browsers have for them."""

import os
from collections.abc import Mapping
from typing import Literal

from luthier.errors import UsageError

Language = Literal["en", "zh", "id", "vi"]
LANGUAGES: tuple[Language, ...] = ("en", "zh", "id", "vi")
_OTHERS: Mapping[str, Language] = {"in": "id", "cmn": "zh", "ind": "id", "vie": "vi", "eng": "en"}
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


def language_of(name: str) -> Language | None:
    """The language of `zh_CN.UTF-8`, `zh-Hans`, `id`, `vi_VN`; None for one that is not spoken."""
    first = name.replace("-", "_").partition(".")[0].partition("_")[0].strip().lower()
    return next((one for one in LANGUAGES if one == first), _OTHERS.get(first))


def chosen(asked: str | None, environment: Mapping[str, str] = os.environ) -> Language:
    """The language asked for, or that of the environment, or English.

    Raises:
        UsageError: It was asked for and is not spoken.
    """
    if asked is not None:
        if (found := language_of(asked)) is None:
            raise UsageError(
                f"--lang {asked}",
                why="en (English), zh (Chinese), id (Indonesian) and vi (Vietnamese) are spoken, "
                "under names such as zh_CN too",
                fix="--lang en",
            )
        return found
    said = next((environment[name] for name in _VARIABLES if environment.get(name)), "")
    return language_of(said) or "en"
