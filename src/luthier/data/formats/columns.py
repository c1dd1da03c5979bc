"""The `columns` setting: our names for theirs.

`columns: {prompt: ask, completion: answer}` says which column holds what.  A dotted name reaches
into a row: `instances.0.output`.  A text with `{names}` in it is made of several columns; see
`luthier.data.formats.column_templates`.  `role` and `content` name the keys of a turn; `user_role`,
`assistant_role`, `system_role` and `tool_role` name who speaks, several separated by commas.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from luthier.data.formats.column_templates import fill, is_template, names_in
from luthier.data.formats.messages import KNOWN_ROLES, USUAL, Speaker, Spelling
from luthier.errors import SettingsError

_ROLE_NAMES: Mapping[str, Speaker] = {
    "user_role": "user",
    "assistant_role": "assistant",
    "system_role": "system",
    "tool_role": "tool",
}


@dataclass(frozen=True)
class Columns:
    """What `columns` says, in two parts: where the fields are, and how turns are spelled."""

    fields: Mapping[str, str]
    spelling: Spelling

    def apply(self, row: Mapping[str, object], *, empty: object = None) -> dict[str, object]:
        """The row's fields under our names; those the row lacks or has as null are left out.

        Args:
            empty: What stands for a column that is there and holds nothing.

        Raises:
            UnusableRowError: A column of a template holds a list or an object.
        """
        named = {
            ours: fill(theirs, lambda name: _value(row, name))
            if ours in self.templates
            else _value(row, theirs)
            for ours, theirs in self.fields.items()
        }
        if empty is not None:
            there = {name: self._is_there(row, name) for name in named}
            named = {n: empty if v is None and there[n] else v for n, v in named.items()}
        return {name: value for name, value in named.items() if value is not None}

    def _is_there(self, row: Mapping[str, object], ours: str) -> bool:
        theirs = self.fields[ours]
        names = names_in(theirs) if ours in self.templates else (theirs,)
        return any(name in row or name.split(".")[0] in row for name in names)

    @cached_property
    def templates(self) -> frozenset[str]:
        """Our names for what is made of several columns."""
        return frozenset(ours for ours, theirs in self.fields.items() if is_template(theirs))

    @cached_property
    def named(self) -> tuple[str, ...]:
        """The columns that are named, those of templates too."""
        single = (
            names_in(theirs) if ours in self.templates else (theirs,)
            for ours, theirs in self.fields.items()
        )
        return tuple(dict.fromkeys(name for names in single for name in names))

    @cached_property
    def used(self) -> frozenset[str]:
        """The top-level columns that are named."""
        return frozenset(self.named) | {name.split(".")[0] for name in self.named}


def _value(row: Mapping[str, object], name: str) -> object:
    """What a column holds, or what a dotted name reaches; None where there is nothing."""
    value: Any = row.get(name)
    if value is None and "." in name:
        value = row
        for part in name.split("."):
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                value = None
    return value


def read_columns(columns: Mapping[str, str] | None, known: Iterable[str]) -> Columns:
    """The setting, checked.

    Raises:
        SettingsError: A name that is not one of ours; all of them together.
    """
    if not columns:
        return Columns({}, USUAL)
    ours = sorted({*known, "role", "content", *_ROLE_NAMES})
    if strange := [name for name in columns if name not in ours]:
        close = get_close_matches(strange[0], ours, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingsError(
            f"columns: {', '.join(map(repr, strange))} is not the name of a field",
            why=f"{hint}on the left stands one of: {', '.join(ours)}",
            fix="columns: {prompt: THEIR_NAME, completion: THEIR_NAME}",
        )
    roles = dict(KNOWN_ROLES)
    for name, speaker in _ROLE_NAMES.items():
        for theirs in columns.get(name, "").split(","):
            if theirs.strip():
                roles[theirs.strip().lower()] = speaker
    spelling = Spelling(
        (columns["role"],) if "role" in columns else USUAL.role_keys,
        (columns["content"],) if "content" in columns else USUAL.content_keys,
        roles,
    )
    special = {"role", "content", *_ROLE_NAMES}
    return Columns({o: t for o, t in columns.items() if o not in special}, spelling)
