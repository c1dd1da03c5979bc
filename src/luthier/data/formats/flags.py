"""What a row says about its own learning: flags of turns, a mask of the row, template arguments.

Other tools write the same wish under other names; those whose meaning is known are honoured.  A key
that sounds as if it took text out of learning and is not known refuses the row: learning what was to
be left out is worse than not starting.  Every other key is counted by name.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from luthier.bounded import kind_of
from luthier.data.formats.tools import UnusableRowError, list_of, parse_json
from luthier.data.types import Message

WEIGHTS = ("weight", "loss_weight")
SWITCHES = ("loss", "train", "training", "trainable", "loss_mask")
"""Of a turn: true or 1 is learned, false or 0 is not (ms-swift and XTuner, axolotl, OpenRLHF)."""
_SOUNDS = re.compile(
    r"(?:\A|_)(?:mask(?:ed)?|loss|train(?:ed|ing|able)?|learn(?:ed|able)?|weights?|ignored?|skip|"
    r"supervised?|labels?)(?:_|\Z)"
)
_RESERVED = ("messages", "tools", "documents", "add_generation_prompt")
_TURN_KEYS = frozenset(
    (
        *WEIGHTS,
        *SWITCHES,
        *("reasoning_content", "reasoning", "thinking"),
        *("tool_calls", "function_call", "tool_call_id", "name"),
    )
)


def weight_of(turn: Mapping[str, Any], where: str) -> float | None:
    """The loss weight a turn gives itself, 0 to 1; None where it says nothing.

    Raises:
        UnusableRowError: The value is no weight, two flags disagree, or a key that would change what
            is learned is not known.
    """
    said = {name: _number(turn[name], name, where) for name in WEIGHTS if _given(turn, name)}
    said |= {name: _number(turn[name], name, where) for name in SWITCHES if _given(turn, name)}
    if len(set(said.values())) > 1:
        listed = " and ".join(f"{name}: {turn[name]!r}" for name in said)
        raise UnusableRowError(f"{where} has {listed}, which do not agree")
    for name in turn:
        known = name in _TURN_KEYS or turn[name] is None
        if not known and isinstance(name, str) and _SOUNDS.search(name.lower()):
            raise UnusableRowError(
                f"{name!r} of {where} sounds as if it changed what is learned, and is not known; "
                "a turn is left out by weight: 0"
            )
    return next(iter(said.values()), None)


def _given(turn: Mapping[str, Any], name: str) -> bool:
    return turn.get(name) is not None


def _number(value: Any, name: str, where: str) -> float:
    switch = name in SWITCHES
    if isinstance(value, bool) and switch:
        return float(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and math.isfinite(value) and 0 <= value <= 1:
        return float(value)
    what = "it is true or false, or a number from 0 to 1" if switch else ""
    raise UnusableRowError(
        f"the {name} of {where} is {value!r}; {what or 'a weight is a number from 0 to 1'}"
    )


def with_mask(messages: Sequence[Message], value: Any) -> tuple[Message, ...]:
    """Turns with the row's `loss_mask`: one number or truth value for each answer, or for each turn.

    Raises:
        UnusableRowError: It is no such list, its length fits neither, or it disagrees with a turn.
    """
    if value is None:
        return tuple(messages)
    mask = list_of(value, "loss_mask")
    answers = [at for at, message in enumerate(messages) if message.role == "assistant"]
    if len(mask) == len(answers):
        places: Sequence[int] = answers
    elif len(mask) == len(messages):
        places = range(len(messages))
    else:
        raise UnusableRowError(
            f"loss_mask has {len(mask)} entries, for {len(messages)} turns of which "
            f"{len(answers)} are answers"
        )
    made = list(messages)
    for at, one in zip(places, mask, strict=True):
        if made[at].role != "assistant":
            continue
        weight = _number(one, "loss_mask", f"message {at + 1}")
        if made[at].weight not in (None, weight):
            raise UnusableRowError(f"loss_mask and message {at + 1} do not agree about its weight")
        made[at] = replace(made[at], weight=weight)
    return tuple(made)


def template_kwargs(value: Any) -> Mapping[str, Any] | None:
    """`chat_template_kwargs` of a row, nulls left out; None where there are none.

    Raises:
        UnusableRowError: It is no object, or names what luthier itself gives the template.
    """
    if isinstance(value, str) and value.strip():
        value = parse_json(value, "chat_template_kwargs")
    if value is None or value == "":
        return None
    if not isinstance(value, Mapping):
        raise UnusableRowError(f"chat_template_kwargs is {kind_of(value)}, not an object")
    if taken := [name for name in value if name in _RESERVED]:
        raise UnusableRowError(f"chat_template_kwargs has {taken[0]!r}, which the row itself gives")
    return {name: item for name, item in value.items() if item is not None} or None


def unused_keys(fields: Mapping[str, object], keys: Sequence[str]) -> Iterator[str]:
    """Keys of turns that nothing is made of, as `messages[].key`; each once a row.

    Args:
        keys: The names of role and content in turns.
    """
    for name, value in fields.items():
        if isinstance(value, Mapping):
            value = value.get("messages", [value])
        if not isinstance(value, list):
            continue
        strange: dict[str, None] = {}
        for turn in value:
            if isinstance(turn, dict) and len(turn) > 2 and any(key in turn for key in keys):
                strange |= {
                    key: None
                    for key, item in turn.items()
                    if item is not None and key not in _TURN_KEYS and key not in keys
                }
        yield from (f"{name}[].{key}" for key in strange)
