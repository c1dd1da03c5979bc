"""A row that the model's chat template does not take."""

from luthier.data.doctor.rule import BadRowRule


class TemplateRefuses(BadRowRule):
    """A row that the model's chat template does not take."""

    code = "template-refuses"
    title = "the chat template refuses the row"
    why = "what the template cannot write cannot be learned with it"
    example = {
        "messages": [
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "How can I help?"},
        ]
    }
    fix = "bring the turns into the order the template wants, or give another one: --chat_template FILE.jinja"
