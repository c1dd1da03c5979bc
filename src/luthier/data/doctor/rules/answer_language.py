"""Answers in another language than their question."""

from luthier.data.doctor.languages import language_of
from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule

_SHORTEST = 30


class AnswerLanguage(Rule):
    """The last question and its answer are in two languages, as far as both show."""

    code = "answer-language"
    severity = "note"
    title = "answers in another language than the question"
    why = "meant in translation; elsewhere the model learns to leave the user's language"
    example = {
        "instruction": "Apa ibu kota Indonesia dan di mana itu?",
        "output": "The capital of Indonesia is Jakarta, and it is on Java.",
    }
    fix = "nothing for translation; else remove the rows"

    def look(self, row: CheckedRow) -> str | None:
        """Both languages."""
        if not row.answers or len(row.answers[-1]) < _SHORTEST:
            return None
        questions = [turn.content for turn in row.chat if turn.role == "user"]
        if not questions or len(questions[-1]) < _SHORTEST:
            return None
        answer = language_of(row.answers[-1])
        asked = language_of(questions[-1]) if answer else None
        if asked is None or asked == answer:
            return None
        return f"asked in {asked}, answered in {answer}"
