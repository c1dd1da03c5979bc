"""A row with the fields of two formats."""

from luthier.data.doctor.rule import BadRowRule


class FormatUncertain(BadRowRule):
    """A row with the fields of two formats."""

    code = "format-uncertain"
    title = "rows that fit two formats"
    why = "which of them is meant is not guessed, and a run stops at the first"
    example = {
        "instruction": "Say hello.",
        "output": "Hello.",
        "prompt": "Say bye.",
        "completion": "Bye.",
    }
    fix = "columns: {prompt: NAME, completion: NAME} says which columns count"
