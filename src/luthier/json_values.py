"""The type of what JSON can say."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A value that `json.dumps` writes; a number that is not finite is not one in strict JSON."""

JsonObject: TypeAlias = Mapping[str, Json]
"""A JSON object that is handed on and not changed."""


def object_of(value: object) -> JsonObject:
    """The value where it is an object; an empty one where it is anything else."""
    return value if isinstance(value, Mapping) else {}


def whole_of(value: object) -> int | None:
    """The value where it is a whole number; None where it is anything else, true and false too."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number_of(value: object) -> float | None:
    """The value where it is a number; None where it is anything else, true and false too."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
