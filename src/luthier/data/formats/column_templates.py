r"""Text made of several columns, on the right of `columns`: `{prompt: "{question}\nA. {A}\nB. {B}"}`.

`{name}` stands for what the column of that name holds, dots reach into it, `{{` and `}}` are
braces, and the two characters `\n` a new line.  A line all of whose columns are empty is left out,
so that a question with three choices has no fourth; where every column is empty, so is the field.
"""

import json
import re
from collections.abc import Callable

from luthier.bounded import kind_of
from luthier.data.formats.tools import UnusableRowError

_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


def is_template(text: str) -> bool:
    """Whether there is a column to put in; otherwise the text is the name of one."""
    return bool(names_in(text))


def names_in(text: str) -> tuple[str, ...]:
    """The columns that a template names, in order."""
    return tuple(dict.fromkeys(found[1] for found in _PLACE.finditer(text) if found[1]))


def fill(template: str, value_of: Callable[[str], object]) -> str | None:
    """The text of one row; None where every column that it names is empty.

    Args:
        value_of: What a column holds; None where the row has nothing there.

    Raises:
        UnusableRowError: A column holds a list or an object.
    """
    filled = False
    lines: list[str] = []
    for line in template.replace("\\n", "\n").split("\n"):
        parts = {name: _text(name, value_of(name)) for name in names_in(line)}
        if parts and not any(parts.values()):
            continue
        filled = filled or bool(parts)
        lines.append(_PLACE.sub(lambda found, parts=parts: _put(found, parts), line))  # type: ignore[misc]
    return "\n".join(lines).strip() if filled else None


def _put(found: re.Match[str], parts: dict[str, str]) -> str:
    return parts[found[1]] if found[1] else found[0][0]


def _text(name: str, value: object) -> str:
    """What a cell says: numbers as JSON writes them, nothing for null and white space."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int | float):
        return json.dumps(value)
    raise UnusableRowError(f"{name!r}, a column of a template, is {kind_of(value)}, not text")
