"""A row none of whose tokens is a target, after rendering."""

from luthier.data.doctor.rule import BadRowRule


class NoTarget(BadRowRule):
    """A row none of whose tokens is a target, after rendering."""

    code = "no-target"
    title = "no token carries loss"
    why = "the row is computed in every epoch and nothing is learned from it"
    example = {
        "messages": [
            {"role": "user", "content": "What is 2 + 2?"},
            {"role": "assistant", "content": "4", "weight": 0},
        ]
    }
    fix = "give at least one answer a weight above 0, or remove the row"
