"""The type of what JSON can say."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A value that `json.dumps` writes; a number that is not finite is not one in strict JSON."""

JsonObject: TypeAlias = Mapping[str, Json]
"""A JSON object that is handed on and not changed."""
