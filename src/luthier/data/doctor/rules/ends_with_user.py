"""Conversations that end with the user."""

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule
from luthier.data.types import Conversation


class EndsWithUser(Rule):
    """A conversation whose last turn is a question, or a tool's result, that nobody answers."""

    code = "ends-with-user"
    severity = "warning"
    title = "conversations that end with the user"
    why = "the last turn is computed in every epoch and nothing is learned from it"
    example = {
        "messages": [
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hello, how can I help?"},
            {"role": "user", "content": "Bye."},
        ]
    }
    fix = "luthier data fix FILE --output NEW drops the trailing turns; or add the answer"

    def look(self, row: CheckedRow) -> str | None:
        """Who has the last word."""
        if not isinstance(row.sample, Conversation) or row.messages[-1].role == "assistant":
            return None
        last = row.messages[-1]
        return f"ends with the {last.role}: {last.content[:40]}"
