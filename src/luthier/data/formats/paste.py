"""`columns` as people paste them: behind a flag, or in a file of settings."""

import json
import re
import shlex
from collections.abc import Mapping

_PLAIN = re.compile(r"[^\W\d_][\w .-]*(?<! )")
_OF_YAML = frozenset({"yes", "no", "true", "false", "null", "on", "off", "y", "n"})


def as_flag(columns: Mapping[str, str]) -> str:
    """`--columns prompt=ask,completion=answer`; JSON where a name or template needs it."""
    if all(map(_is_plain, columns.values())):
        text = ",".join(f"{ours}={theirs}" for ours, theirs in columns.items())
    else:
        text = json.dumps(dict(columns), ensure_ascii=False)
    return f"--columns {shlex.quote(text)}"


def as_yaml(columns: Mapping[str, str]) -> str:
    """`columns: {prompt: ask, completion: answer}`, a line of a file of settings."""
    parts = (
        f"{ours}: {theirs if _is_plain(theirs) else json.dumps(theirs, ensure_ascii=False)}"
        for ours, theirs in columns.items()
    )
    return f"columns: {{{', '.join(parts)}}}"


def _is_plain(name: str) -> bool:
    """Whether YAML reads it as the text it is, without quotes."""
    return _PLAIN.fullmatch(name) is not None and name.lower() not in _OF_YAML


def both(columns: Mapping[str, str]) -> str:
    """The flag, and the line of a file."""
    return f"{as_flag(columns)}; or in a file: {as_yaml(columns)}"
