"""A row of which the chat template writes less than it says."""

from luthier.data.doctor.rule import BadRowRule


class ContentLost(BadRowRule):
    """A row of which the chat template writes less than it says."""

    code = "content-lost"
    title = "the chat template leaves out a part of the row"
    why = "the model would learn from less than the row says, or answer inside a thinking block"
    example = {
        "messages": [
            {"role": "user", "content": "What is 2 + 2?"},
            {"role": "assistant", "reasoning_content": "Two and two.", "content": "4"},
        ]
    }
    fix = (
        "another template: --chat_template FILE.jinja; system text in a user message; text and call "
        "in turns of their own; reasoning in the answer as <think>...</think>, or "
        "chat_template_kwargs: {enable_thinking: true}"
    )
