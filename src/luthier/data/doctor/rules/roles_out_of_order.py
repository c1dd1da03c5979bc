"""Turns in an order that templates do not expect."""

from collections.abc import Sequence

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule


class RolesOutOfOrder(Rule):
    """An assistant that speaks first, or system text in the middle."""

    code = "roles-out-of-order"
    severity = "warning"
    title = "roles out of order"
    why = "a conversation is system text, then user and assistant in turn; many templates refuse others"
    example = {
        "messages": [
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "2 + 2?"},
            {"role": "assistant", "content": "4"},
        ]
    }
    fix = "put system text first and begin with the user"

    def look(self, row: CheckedRow) -> str | None:
        """The first turn that is out of place."""
        turns = [turn.role for turn in row.chat]
        if "system" in turns[1:] and any(role != "system" for role in turns[: _last_system(turns)]):
            return f"system text in message {_last_system(turns) + 1}"
        spoken = [role for role in turns if role != "system"]
        if spoken and spoken[0] == "assistant" and "user" in spoken:
            return "begins with the assistant"
        if spoken and spoken[0] == "tool":
            return "begins with the result of a tool"
        return None


def _last_system(turns: Sequence[str]) -> int:
    return len(turns) - 1 - turns[::-1].index("system")
