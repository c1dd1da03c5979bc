"""A row of unpaired feedback: an answer and whether it is wanted."""

from luthier.data.doctor.rule import BadRowRule


class FeedbackNotTrained(BadRowRule):
    """A row of unpaired feedback: an answer and whether it is wanted."""

    code = "feedback-not-trained"
    title = "unpaired feedback"
    why = "answers with a label need another objective than sft and dpo, which is not built yet"
    example = {
        "messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}],
        "label": True,
    }
    fix = "keep the rows whose label is true and learn those: columns: {messages: messages}"
