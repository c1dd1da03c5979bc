"""Answers of one word."""

from luthier.data.doctor.finding import Finding
from luthier.data.doctor.languages import has_unspaced
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

_MANY = 0.5


class OneWordAnswers(Rule):
    """Rows whose answers are one word each (up to four characters where words are not spaced)."""

    code = "one-word-answers"
    severity = "note"
    title = "answers of one word"
    why = "fine for labels; a model for conversation learns to be curt from them"
    example = {"instruction": "Is the sky blue?", "input": "", "output": "Yes"}
    fix = "nothing, if labels are what is wanted; else write out the answers"

    def look(self, row: CheckedRow) -> str | None:
        """The answer."""
        answers = [text.strip() for text in row.answers]
        if not answers or not all(map(_one_word, answers)):
            return None
        return answers[0]

    def finish(self, rows: int) -> Finding | None:
        """A warning is not due: only the owner knows what the data is for."""
        if not self.count:
            return None
        mostly = "most of them" if self.count > _MANY * rows else "some of them"
        params = {"share": self.count / rows}
        return self.finding(f"{self.count:,} of {rows:,} rows, {mostly}", params=params)


def _one_word(text: str) -> bool:
    if not text or len(text) > 40:
        return False
    return len(text) <= 4 if has_unspaced(text) else len(text.split()) == 1
