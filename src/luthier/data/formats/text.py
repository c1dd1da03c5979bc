"""Rows that are one text, trained as they stand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from luthier.data.formats.format import Context, Format, fields
from luthier.data.formats.messages import text_of
from luthier.data.reading.read import ending
from luthier.data.text_forms import Form, forms_of
from luthier.data.types import Text


def _text(row: Mapping[str, object], context: Context) -> Text:
    return Text(text_of(row["text"], "'text'", "empty-answer"), context.origin)


def recognise(texts: Sequence[Text]) -> list[Text]:
    r"""The texts of one file with their form.

    In a `.txt` file a row cannot hold a line end, so in rows recognised as chats the two
    characters `\n` stand for one.  Plain text keeps every character: `C:\new` is a path.
    """
    forms = forms_of([text.text for text in texts])
    return [with_form(text, form) for text, form in zip(texts, forms, strict=True)]


def with_form(text: Text, form: Form) -> Text:
    """The text as one of that form; see `recognise`."""
    escaped = form != "plain" and ending(Path(text.origin.file)) == ".txt"
    body = text.text.replace("\\n", "\n") if escaped else text.text
    return replace(text, text=body, form=form)


TEXT_FORMATS = (
    Format(
        "text",
        "text",
        "One text: plain, a Llama-2 chat (<s>[INST] .. [/INST] ..), or a Guanaco chat (### Human: ..)",
        fields("text"),
        frozenset(),
        {"text": "<s>[INST] What is 2 + 2? [/INST] 4 </s>"},
        _text,
    ),
)
