"""Columns that a format leaves aside although they mean something: they stop the run.

A name close to one of ours (`Input`, `inputs`, `system_prompt`) or one of ours that the format found
does not use is refused with the `columns` that use it, unless what it says is in the sample anyway.
Pictures and sound are refused: only text is trained on.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from luthier.data.formats.format import Format
from luthier.data.formats.paste import as_yaml, both
from luthier.data.types import Feedback, Preference, Row, Sample, Text
from luthier.errors import FormatError

_MEANINGS = {
    "system": "system systemprompt systemmessage systemtext systeminstruction systemcontent sys"
    " sysprompt sysmsg systemrole developer developermessage",
    "input": "input inputtext inputdata",
    "instruction": "instruction instructiontext taskinstruction",
    "context": "context passage contexttext document",
    "prompt": "prompt prompttext userprompt usermessage",
    "question": "question questiontext userquestion",
    "query": "query userquery",
    "history": "history chathistory conversationhistory dialoghistory dialoguehistory",
    "tools": "tools tool toolschemas tooldefinitions availabletools",
    "functions": "functions functiondefinitions",
    "messages": "messages chatmessages",
    "output": "output outputtext",
    "response": "response responsetext modelresponse",
    "answer": "answer answertext finalanswer",
    "completion": "completion completiontext",
}
_MEANT = {spelling: ours for ours, names in _MEANINGS.items() for spelling in names.split()}
_ASKS = frozenset(
    (
        "system",
        "input",
        "instruction",
        "context",
        "prompt",
        "question",
        "query",
        "history",
        "tools",
        "functions",
    )
)
"""What a model is asked with.  Another answer left aside is a notice: a run learns one of them."""

_MEDIA = re.compile(
    r"(image|img|picture|photo|pixel|video|audio|speech|wav|frame)s?(path|file|url|bytes|value|list)?s?"
)
_MEDIA_TEXT = re.compile(
    r"(?i)(data:(image|audio|video)/|https?://\S+|\S.*\.(png|jpe?g|gif|webp|bmp|tiff?|heic|mp[34]|wav|flac|ogg"
    r"|webm|mov|avi)$|[A-Za-z0-9+/=\s]{200,}$)"
)
_LOOKALIKES = str.maketrans("асеорхуіѕԁһјӏοανυρτικ", "aceopxyisdhjloavuptik")


def meant_by(name: str) -> str | None:
    """Which of our names a column's name stands for, by its letters alone; None for none."""
    plain = unicodedata.normalize("NFKC", name).translate(_LOOKALIKES).casefold()
    plain = "".join(character for character in plain if character.isalnum())
    return _MEANT.get(plain) or _MEANT.get(plain.removesuffix("s"))


def check_aside(row: Row, unused: Sequence[str], found: Format, sample: Sample) -> None:
    """Refuse a row whose unused columns hold what should have been learned or asked with.

    Raises:
        FormatError: With the `columns` that use the column.
    """
    for name in unused:
        value = row.fields[name]
        if media_in(name, value):
            raise FormatError(
                f"{row.origin}: the column {name!r} holds pictures, video or sound",
                why="models of text are trained here; without it the rows would ask about nothing",
                fix=f"leave these rows out, or take {name!r} out where the text stands by itself",
            )
    for name in unused:
        meant = meant_by(str(name))
        value = row.fields[name]
        if meant not in _ASKS or not _says(value) or _is_said(value, sample):
            continue
        columns = _columns(str(name), meant, found)
        known = "means something" if name == meant else f"looks like {meant!r}"
        raise FormatError(
            f"{row.origin}: the column {name!r} {known}, and {found.name} does not use it; {as_yaml(columns)}",
            why="what it says would be left out of every row",
            fix=f"{both(columns)}; or to leave it out, name the others: "
            + both({one: one for one in sorted(found.required)}),
        )


def media_in(name: object, value: object) -> bool:
    """Whether a column holds pictures, video or sound, by its name and what is in it."""
    plain = "".join(c for c in str(name).casefold() if c.isalnum())
    if not _MEDIA.fullmatch(plain) or not value:
        return False
    items = value if isinstance(value, list) else [value]
    return any(
        isinstance(item, dict | list)
        or (isinstance(item, str) and _MEDIA_TEXT.match(item) is not None)
        for item in items
    )


def renamed(fields: Mapping[str, object]) -> dict[str, str]:
    """Our names for those of a row that stand for them, each once: `{instruction: Instruction}`."""
    made: dict[str, str] = {}
    for name in fields:
        meant = meant_by(str(name))
        if meant and meant not in made and (name == meant or meant not in fields):
            made[meant] = str(name)
    return made


def _columns(name: str, meant: str, found: Format) -> dict[str, str]:
    """The `columns` that use it beside what the format uses."""
    if meant in found.optional:
        return {meant: name}
    ask = next(
        (n for n in ("instruction", "prompt", "question", "query", "input") if n in found.required),
        None,
    )
    answer = next(
        (n for n in ("output", "response", "answer", "completion") if n in found.required), None
    )
    if ask is None or answer is None:
        return {"system": name} if "system" in found.optional else {"prompt": name}
    asks_first = meant in ("instruction", "prompt")
    first, second = (name, ask) if asks_first else (ask, name)
    return {"instruction": first, "input": second, "output": answer}


def _says(value: object) -> bool:
    return (
        bool(value.strip())
        if isinstance(value, str)
        else isinstance(value, list | dict) and bool(value)
    )


def _is_said(value: object, sample: Sample) -> bool:
    """Whether every text in a value is in the sample too, white space aside."""
    said = " ".join(" ".join(_texts(sample)).split())
    return all(" ".join(text.split()) in said for text in _strings(value))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _texts(sample: Sample) -> list[str]:
    if isinstance(sample, Text):
        return [sample.text]
    if isinstance(sample, Feedback):
        sample = sample.conversation
    turns = (
        (*sample.prompt, *sample.chosen, *sample.rejected)
        if isinstance(sample, Preference)
        else sample.messages
    )
    return [f"{turn.role} {turn.content} {turn.tool_calls or ''}" for turn in turns]
