"""What a format is: which fields make it, and the function from fields to a sample."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from luthier.data.formats.messages import Spelling
from luthier.data.types import Origin, Sample

Kind = Literal["conversation", "preference", "text", "feedback"]


@dataclass(frozen=True, slots=True)
class Context:
    """What a format's function knows beside the fields of the row."""

    origin: Origin
    spelling: Spelling


@dataclass(frozen=True)
class Format:
    """A way to write rows.

    A row has the format when it has every `required` field and none of `never`; fields in neither
    set and not in `optional` are not used, and counted.
    """

    name: str
    kind: Kind
    description: str
    required: frozenset[str]
    optional: frozenset[str]
    example: Mapping[str, object]
    read: Callable[[Mapping[str, Any], Context], Sample]
    never: frozenset[str] = frozenset()

    @cached_property
    def fields(self) -> frozenset[str]:
        """Every field the format uses."""
        return self.required | self.optional


def fields(names: str) -> frozenset[str]:
    """A set of names from words."""
    return frozenset(names.split())
