"""A conversation without any turn of the assistant."""

from luthier.data.doctor.rule import BadRowRule


class NoAnswer(BadRowRule):
    """A conversation without any turn of the assistant."""

    code = "no-answer"
    title = "no answer to learn from"
    why = "without a turn of the assistant no token of the row carries loss"
    example = {"messages": [{"role": "user", "content": "What is 2 + 2?"}]}
    fix = "luthier data fix FILE --output NEW drops these rows; or write the answers"
