"""Tool schemas with types that JSON Schema does not know."""

from collections.abc import Iterator

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule
from luthier.data.formats.tools import UnusableRowError, parse_json

KNOWN_TYPES = frozenset(["object", "array", "string", "number", "integer", "boolean", "null"])
_COLUMNS = ("tools", "functions", "function")


class ToolSchemaTypes(Rule):
    """`"type": "dict"` and its kind in the parameters of a tool."""

    code = "tool-schema-types"
    severity = "warning"
    title = "tool schemas with unknown types"
    why = "at chat time tools are described with JSON Schema's types, which these are not"
    example = {"tools": [{"name": "weather", "parameters": {"type": "dict", "properties": {}}}]}
    fix = "luthier data fix FILE --output NEW writes object for dict, number for float, array for list and tuple"

    def look(self, row: CheckedRow) -> str | None:
        """The unknown types of the row."""
        found = sorted({kind for name in _COLUMNS for kind in unknown_types(row.fields.get(name))})
        return ", ".join(f'"type": "{kind}"' for kind in found[:5]) or None


def unknown_types(tools: object) -> Iterator[str]:
    """Types of the parameters of tools, or of the JSON of tools, that JSON Schema does not know."""
    if isinstance(tools, str) and tools.lstrip()[:1] in ("[", "{"):
        try:
            tools = parse_json(tools, "tools")
        except UnusableRowError:  # told by the rule for such rows
            return
    for tool in tools if isinstance(tools, list) else [tools]:
        inner = tool.get("function", tool) if isinstance(tool, dict) else None
        if isinstance(inner, dict):
            yield from _types(inner.get("parameters"))


def _types(schema: object) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if isinstance(kind, str) and kind not in KNOWN_TYPES:
            yield kind
    properties = schema.get("properties")
    for inner in properties.values() if isinstance(properties, dict) else ():
        yield from _types(inner)
    yield from _types(schema.get("items"))
