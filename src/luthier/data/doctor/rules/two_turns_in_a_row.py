"""Two turns in a row from one side."""

from itertools import pairwise

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule


class TwoTurnsInARow(Rule):
    """Two turns of the user, or two of the assistant, one behind the other."""

    code = "two-turns-in-a-row"
    severity = "warning"
    title = "two turns in a row from one side"
    why = "many chat templates refuse it, and after its answer a model would learn to go on talking"
    example = {
        "messages": [
            {"role": "user", "content": "Hello."},
            {"role": "user", "content": "Are you there?"},
            {"role": "assistant", "content": "Yes."},
        ]
    }
    fix = "join the two turns into one"

    def look(self, row: CheckedRow) -> str | None:
        """The first place; calls of tools and their results may follow each other."""
        for number, (one, other) in enumerate(pairwise(row.chat), 1):
            same = one.role == other.role and one.role in ("user", "assistant")
            if same and not one.tool_calls:
                return f"messages {number} and {number + 1} are both from the {one.role}"
        return None
