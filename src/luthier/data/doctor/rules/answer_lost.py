"""A row so long that cutting it leaves nothing to learn, or that truncation does not allow to be cut."""

from luthier.data.doctor.rule import BadRowRule


class AnswerLost(BadRowRule):
    """A row so long that cutting it leaves nothing to learn, or that truncation does not allow to be cut."""

    code = "answer-lost"
    title = "no answer is left within seq_length"
    why = "such rows are dropped: their prompt alone fills the sequence"
    example = {
        "messages": [
            {
                "role": "user",
                "content": "word word word word word word word word word word word word "
                "word word word word word word word word ...",
            },
            {"role": "assistant", "content": "Yes."},
        ]
    }
    fix = "a larger --seq_length, or shorter prompts"
