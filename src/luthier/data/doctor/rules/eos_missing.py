"""Answers that are learned without the token that ends them."""

from luthier.data.doctor.row import CheckedRow
from luthier.data.doctor.rule import Rule
from luthier.data.types import Text


class EosMissing(Rule):
    """The last thing learned in a row is not an end token; or a text row has several answers and
    only the last one ends."""

    code = "eos-missing"
    severity = "warning"
    title = "answers without an end token"
    why = "a model that never learned where an answer ends goes on and plays the user's part"
    example = {"text": "### Human: Hi.### Assistant: Hello.### Human: Bye.### Assistant: Bye."}
    fix = "write the rows as messages, so that the template ends every answer"

    def look(self, row: CheckedRow) -> str | None:
        """By the token ids, as they are trained."""
        if row.example is None or self.facts.renderer is None:
            return None
        stops = self.facts.renderer.stop_ids
        for sequence in row.example.sequences:
            learned = sequence.ids[sequence.weights > 0]
            if stops and len(learned) and int(learned[-1]) not in stops:
                return "the last token learned is no end token"
        if isinstance(row.sample, Text) and row.sample.form == "guanaco":
            answers = row.text.count("### Assistant:")
            ends = sum(int(number) in stops for number in row.example.sequences[-1].ids)
            if answers > 1 and ends < answers:
                return f"{answers} answers, {ends} of them with an end token"
        return None
