"""Two BOS or two EOS one behind the other."""

import re

from luthier.data.doctor.row import CheckedRow, excerpt
from luthier.data.doctor.rule import DataFacts, Rule

_USUAL = ("<s>", "</s>", "<|endoftext|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>")


class BoundariesDoubled(Rule):
    """A BOS or EOS that is there twice: in the text of a row, or in its token ids."""

    code = "boundaries-doubled"
    severity = "warning"
    title = "BOS or EOS twice"
    why = "the model was never shown two of them in a row, and does not see them so at chat time"
    example = {"text": "<s><s>[INST] 2 + 2? [/INST] 4 </s></s>"}
    fix = "luthier data fix FILE --output NEW leaves one; or remove them from the text, they are added where missing"

    def __init__(self, facts: DataFacts) -> None:
        super().__init__(facts)
        marks = "|".join(map(re.escape, _USUAL))
        self._twice = re.compile(rf"({marks})\s*\1")
        tokenizer = facts.tokenizer
        ids = () if tokenizer is None else (tokenizer.bos_id, tokenizer.eos_id)
        self._ids = frozenset(number for number in ids if number is not None)

    def look(self, row: CheckedRow) -> str | None:
        """In the text first, then in the ids as they are trained."""
        if row.sample is not None and "<" in row.text and (found := self._twice.search(row.text)):
            return excerpt(row.text, *found.span())
        for sequence in row.example.sequences if row.example else ():
            ids = sequence.ids
            for number in self._ids:
                if ((ids[1:] == number) & (ids[:-1] == number)).any():
                    assert self.facts.tokenizer is not None
                    return f"{self.facts.tokenizer.token(number)} twice in the token ids"
        return None
