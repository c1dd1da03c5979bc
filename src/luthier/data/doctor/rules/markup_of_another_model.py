"""Texts written in the markup of another model."""

from luthier.data.doctor.row import CheckedRow, excerpt
from luthier.data.doctor.rule import Rule
from luthier.data.doctor.rules.control_markup import KNOWN
from luthier.data.types import Text


class MarkupOfAnotherModel(Rule):
    """A `text` row with control markup that is no control token of this model's tokenizer."""

    code = "markup-of-another-model"
    severity = "warning"
    title = "texts in the markup of another model"
    why = (
        "what is one control token for that model is several tokens of plain text for this one, "
        "and at chat time this model is given its own template instead"
    )
    example = {"text": "<s>[INST] 2 + 2? [/INST] 4 </s>", "model": "one without <s> and </s>"}
    fix = "write the rows as messages, so that the model's own template is used"

    def look(self, row: CheckedRow) -> str | None:
        """The first markup that this tokenizer does not know."""
        tokenizer = self.facts.tokenizer
        if tokenizer is None or not isinstance(row.sample, Text):
            return None
        for found in KNOWN.finditer(row.text):
            mark = found.group().strip()
            special = mark.startswith(("<|", "</s", "<start", "<end"))
            if special and mark not in tokenizer.special_tokens:
                return excerpt(row.text, *found.span())
        return None
