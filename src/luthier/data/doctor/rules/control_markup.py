"""Control markup inside the text of messages."""

import re

from luthier.data.doctor.row import CheckedRow, excerpt
from luthier.data.doctor.rule import DataFacts, Rule
from luthier.data.types import Text

KNOWN = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id|begin_of_text|start_header_id|end_header_id|assistant"
    r"|user|system|end)\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</s>|(?:\A|\n)### "
    r"(?:Human|Assistant|Instruction|Response):"
)


class ControlMarkup(Rule):
    """Markup of chat templates in the text of a message, of this model or of another."""

    code = "control-markup"
    severity = "warning"
    title = "control markup inside messages"
    why = (
        "in messages it is learned as plain text and never becomes a control token; mostly it is "
        "a transcript that was put into one turn, so that one answer teaches both sides"
    )
    example = {"instruction": "Go on.", "output": "Yes.<|im_end|>\n<|im_start|>user\nAnd you?"}
    fix = "split the text into turns, or remove the markup"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        special = facts.tokenizer.special_tokens if facts.tokenizer else {}
        self._own = tuple(text for text in special if len(text) > 2)

    def look(self, row: CheckedRow) -> str | None:
        """The first place in any message."""
        if row.sample is None or isinstance(row.sample, Text):
            return None
        text = row.text
        if "<" not in text and "[" not in text and "#" not in text:
            return None
        if found := KNOWN.search(text):
            return excerpt(text, *found.span())
        own = next((mark for mark in self._own if mark in text), None)
        if own is None:
            return None
        start = text.index(own)
        return excerpt(text, start, start + len(own))
