"""Refusals and boilerplate of another model."""

import re

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

_BOILERPLATE = re.compile(
    r"as an? (?:ai|artificial intelligence)(?: language)? (?:model|assistant)|as a language model"
    r"|i(?:'| a)m sorry, but i can(?:no|')t|openai|作为一个?(?:人工智能|ai|大型?语言)|我是一个?ai"
    r"|sebagai (?:model bahasa|asisten) ai|là (?:một )?(?:mô hình ngôn ngữ|trí tuệ nhân tạo)",
    re.IGNORECASE,
)


class Refusals(Rule):
    """Answers with the stock phrases of assistants: "As an AI language model ..."."""

    code = "refusals"
    severity = "note"
    title = "refusals and stock phrases of other models"
    why = "the model takes over the refusals and the name of the model that wrote the data"
    example = {"instruction": "Your opinion?", "output": "As an AI language model, I have none."}
    fix = "read them, and remove those that should not be learned"

    def look(self, row: CheckedRow) -> str | None:
        """The phrase."""
        for answer in row.answers:
            if found := _BOILERPLATE.search(answer):
                return found.group()
        return None
