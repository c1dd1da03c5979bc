"""Errors as Python shows them: what, why and fix, with keywords in place of flags."""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from luthier.config.settings import Settings
from luthier.errors import LuthierError, from_dict

P = ParamSpec("P")
R = TypeVar("R")
_FLAG = re.compile(r"--([a-z][a-z0-9_-]*)(?:[ =]('[^']*'|[^\s;,]+))?")
_LITERAL = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?", re.IGNORECASE)


def short_errors(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose errors come from its own line, not from the depths of the product."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except LuthierError as error:
            said = error.as_dict()
            known = from_dict({**said, "fix": as_keywords(said["fix"])})
            short = known if type(known) is type(error) else error
        raise short.with_traceback(None)

    return wrapped


def as_keywords(fix: str) -> str:
    """A fix in flags as one in keyword arguments; whole commands stay what they are."""
    if "luthier " in fix or not fix.startswith("--"):
        return fix
    return re.sub(r" (?=[a-z0-9_]+=)", ", ", _FLAG.sub(_keyword, fix))


def _keyword(found: re.Match[str]) -> str:
    name = found[1].replace("-", "_")
    if name not in Settings.model_fields:
        return found[0]
    value = found[2] or "true"
    if value in ("true", "false", "null"):
        return f"{name}={ {'true': True, 'false': False, 'null': None}[value] }"
    plain = value.strip("'")
    return f"{name}={plain if _LITERAL.fullmatch(plain) else repr(plain)}"
