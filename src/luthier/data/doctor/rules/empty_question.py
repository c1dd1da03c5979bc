"""A question without text."""

from luthier.data.doctor.rule import BadRowRule


class EmptyQuestion(BadRowRule):
    """A question without text."""

    code = "empty-question"
    title = "empty question"
    why = "an answer to nothing is learned as an answer to everything"
    example = {
        "messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "Paris."}]
    }
    fix = "write the question, or remove the row"
