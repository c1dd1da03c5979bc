"""The base of every event, and the way of its fields to a line of JSON and back.

A number that is not finite is written as null beside `"<name>_text": "nan"`, so that every line is
valid JSON and nothing is hidden; read again it is the number that it was.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from time import monotonic
from time import time as seconds_since_epoch
from types import UnionType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from luthier.json_values import Json, JsonObject

_STARTED = monotonic()
_NULL = {"null": True}
_FIELDS: dict[type, Mapping[str, tuple[type, ...]]] = {}  # by kind of event, found once


def restart_clock() -> None:
    """Count `elapsed_s` from now: in a process forked from one that has waited for a while."""
    global _STARTED
    _STARTED = monotonic()


def written_as_null() -> Any:
    """The default of a field whose None says something: it stands in the line as null."""
    return field(default=None, metadata=_NULL)


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every line has besides `type`.

    Attributes:
        time: Seconds since the epoch.
        elapsed_s: Monotonic seconds since the process started.
    """

    type: ClassVar[str] = ""
    synced: ClassVar[bool] = False
    """Whether the line must be with the disk before the run goes on: it decides what the run is."""

    time: float = field(default_factory=seconds_since_epoch)
    elapsed_s: float = field(default_factory=lambda: monotonic() - _STARTED)

    def as_dict(self) -> dict[str, Json]:
        """The line as plain JSON values: the type, what this kind has, the clocks."""
        own = [one for one in fields(self) if one.name not in ("time", "elapsed_s")]
        values = {one.name: getattr(self, one.name) for one in own if _said(self, one)}
        line = {"type": self.type, **values, "time": self.time, "elapsed_s": self.elapsed_s}
        return dict(_finite_items(line))

    def to_json(self) -> str:
        """One line of valid JSON without the newline."""
        clean = self.as_dict()
        text = json.dumps(clean, ensure_ascii=False, allow_nan=False)
        # Half of a surrogate pair, which JSON can carry into a text, has no bytes in UTF-8.
        return json.dumps(clean) if re.search("[\ud800-\udfff]", text) else text

    @classmethod
    def from_dict(cls, line: JsonObject) -> Self | None:
        """Back from a line; None where a field that it must have is missing or of another kind."""
        known, values = _kinds_of_fields(cls), _numbers(line)
        given: dict[str, Any] = {name: values[name] for name in known if name in values}
        bare = (one.name for one in fields(cls) if _required(one))
        if any(name not in given for name in bare):
            return None
        fitting = all(isinstance(value, known[name]) for name, value in given.items())
        return cls(**given) if fitting else None


def _said(event: Event, one: "Field[object]") -> bool:
    return getattr(event, one.name) is not None or bool(one.metadata)


def _required(one: "Field[object]") -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _kinds_of_fields(kind: type[Event]) -> Mapping[str, tuple[type, ...]]:
    """The classes that a value of each field may have."""
    if kind not in _FIELDS:
        hints = get_type_hints(kind)
        _FIELDS[kind] = {one.name: tuple(_classes(hints[one.name])) for one in fields(kind)}
    return _FIELDS[kind]


def _classes(hint: object) -> Iterator[type]:
    if isinstance(hint, UnionType):
        for part in get_args(hint):
            yield from _classes(part)
    elif hint is float:
        yield from (float, int)
    else:
        found = get_origin(hint) or hint
        assert isinstance(found, type), hint
        yield found


def _finite_items(values: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for name, value in values.items():
        yield str(name), _finite(value)
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{name}_text", str(value)


def _finite(value: Json) -> Json:
    if isinstance(value, Mapping):
        return dict(_finite_items(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(line: JsonObject) -> dict[str, Json]:
    """The line with the numbers that were not finite as they were."""
    back: dict[str, Json] = {
        name: _numbers(value) if isinstance(value, Mapping) else value
        for name, value in line.items()
    }
    for name, value in line.items():
        if value is None and (said := back.pop(f"{name}_text", None)) in ("nan", "inf", "-inf"):
            back[name] = float(str(said))
    return back
