"""An answer without text."""

from luthier.data.doctor.rule import BadRowRule


class EmptyAnswer(BadRowRule):
    """An answer without text."""

    code = "empty-answer"
    title = "empty answer"
    why = "there is nothing to learn from it, and as text it teaches to say nothing"
    example = {"instruction": "Name a prime number.", "input": "", "output": ""}
    fix = "luthier data fix FILE --output NEW drops these rows; or write the answers"
