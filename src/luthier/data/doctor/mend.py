"""Fixes of one row that are safe: the row as it was written goes in, and comes out mended or dropped.

Safe means: nothing that somebody meant to say is lost, and doing it twice changes nothing.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from luthier.data.doctor.rules.invisible_characters import without_invisible
from luthier.data.formats import RowReader
from luthier.data.formats.tools import UnusableRowError, parse_json
from luthier.data.types import BadRow, Conversation, Row, Sample, Text

DROPPED = frozenset({"empty-answer", "no-answer", "chosen-equals-rejected"})
"""Codes of rows that are left out: nothing can be learned from them."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DOUBLED = re.compile(r"(<s>|</s>|<\|endoftext\|>|<\|im_end\|>|<\|begin_of_text\|>)(?:\s*\1)+")
_TYPES = {
    "dict": "object",
    "float": "number",
    "double": "number",
    "int": "integer",
    "long": "integer",
    "str": "string",
    "bool": "boolean",
    "list": "array",
    "tuple": "array",
}
_TOOL_COLUMNS = ("tools", "functions", "function")
_TURN_COLUMNS = ("messages", "conversations")


class Mend(NamedTuple):
    """One thing that was done to a row: the code of the rule, and what."""

    code: str
    what: str


@dataclass(frozen=True, slots=True)
class Mended:
    """A row after mending: its fields, or None where it is dropped, and what was done."""

    fields: dict[str, Any] | None
    done: tuple[Mend, ...]
    sample: Sample | None = None

    def under_our_names(self, row: Row, reader: RowReader) -> "Mended":
        """The same with fields that need no `columns` any more, where the row can be read."""
        if self.fields is None or self.sample is None:
            return self
        known = reader.known_fields(Row(self.fields, row.origin))
        return self if known is None else replace(self, fields=known)


def mend(row: Row, reader: RowReader, turns_column: str | None = None) -> Mended:
    """One row, mended.

    Args:
        turns_column: Where `columns` says the turns are.

    Raises:
        FormatError: The row has the fields of two formats.
    """
    done: list[Mend] = []
    fields = dict(row.fields)
    for code, what, change in _TEXT_FIXES:
        changed = {_key(change, name): _strings(value, change) for name, value in fields.items()}
        if changed != fields:
            done.append(Mend(code, what))
            fields = changed
    for name in _TOOL_COLUMNS:
        if name in fields and (schemas := _schemas(fields[name])) != fields[name]:
            done.append(
                Mend("tool-schema-types", f"types of {name} written as JSON Schema has them")
            )
            fields = {**fields, name: schemas}
    made = reader.read(Row(fields, row.origin)).sample
    if isinstance(made, Text) and "text" in fields and isinstance(fields["text"], str):
        single = _DOUBLED.sub(r"\1", fields["text"])
        if single != fields["text"]:
            done.append(Mend("boundaries-doubled", "one of each kept"))
            fields = {**fields, "text": single}
            made = reader.read(Row(fields, row.origin)).sample
    if isinstance(made, Conversation) and (count := _trailing(made)):
        for column in (turns_column, *_TURN_COLUMNS):
            turns = fields.get(column) if column else None
            if column and isinstance(turns, list) and len(turns) > count:
                done.append(Mend("ends-with-user", f"the last {count} turns taken off"))
                fields = {**fields, column: turns[:-count]}
                made = reader.read(Row(fields, row.origin)).sample
                break
    if isinstance(made, BadRow):
        if made.kind in DROPPED:
            return Mended(None, (*done, Mend(made.kind, f"dropped: {made.reason}")))
        return Mended(fields, tuple(done))
    return Mended(fields, tuple(done), made)


def _trailing(sample: Conversation) -> int:
    """Turns of the user behind the last answer; 0 where a tool's result is among them."""
    for count, message in enumerate(reversed(sample.messages)):
        if message.role == "assistant":
            return count
        if message.role != "user":
            return 0
    return 0


def _without_invisible(text: str) -> str:
    return text if text.isascii() else without_invisible(text)


def _without_control(text: str) -> str:
    return _CONTROL.sub("", text)


_TEXT_FIXES: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    (
        "invisible-characters",
        "byte-order marks and zero-width spaces taken out",
        _without_invisible,
    ),
    ("control-characters", "control characters taken out", _without_control),
)


def _key(change: Callable[[str], str], name: Any) -> Any:
    return change(name) if isinstance(name, str) else name


def _strings(value: object, change: Callable[[str], str]) -> object:
    """A value with every string in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_key(change, name): _strings(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_strings(item, change) for item in value]
    return value


def _schemas(tools: object) -> object:
    """Tool schemas with JSON Schema's names of types; as they are where there is nothing to do."""
    if isinstance(tools, str):
        if tools.lstrip()[:1] not in ("[", "{"):
            return tools
        try:
            value = parse_json(tools, "tools")
        except UnusableRowError:  # no JSON: nothing that is safe to change
            return tools
        changed = _schemas(value)
        return tools if changed == value else json.dumps(changed, ensure_ascii=False)
    if isinstance(tools, list):
        return [_schemas(tool) for tool in tools]
    if not isinstance(tools, dict):
        return tools
    if isinstance(tools.get("function"), dict):
        return {**tools, "function": _schemas(tools["function"])}
    return {**tools, "parameters": _schema(tools["parameters"])} if "parameters" in tools else tools


def _schema(schema: object) -> object:
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    kind = made.get("type")
    if isinstance(kind, str):
        made["type"] = _TYPES.get(kind, kind)
    elif isinstance(kind, list):
        made["type"] = [_TYPES.get(one, one) if isinstance(one, str) else one for one in kind]
    if isinstance(properties := made.get("properties"), dict):
        made["properties"] = {name: _schema(inner) for name, inner in properties.items()}
    if "items" in made:
        made["items"] = _schema(made["items"])
    return made
