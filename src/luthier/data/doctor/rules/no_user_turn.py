"""Conversations without a question."""

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule


class NoUserTurn(Rule):
    """A conversation in which the user never speaks."""

    code = "no-user-turn"
    severity = "warning"
    title = "conversations without a user turn"
    why = "the answer is learned as something to say unasked; some templates refuse such rows"
    example = {
        "messages": [
            {"role": "system", "content": "You are brief."},
            {"role": "assistant", "content": "Hello."},
        ]
    }
    fix = "add the question, or remove the row"

    def look(self, row: CheckedRow) -> str | None:
        """Who speaks instead."""
        if not row.chat or any(turn.role in ("user", "tool") for turn in row.chat):
            return None
        return "only " + " and ".join(dict.fromkeys(turn.role for turn in row.chat))
