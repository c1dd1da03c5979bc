"""Data sets to samples: expand the names, read every file, find every row's format."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from luthier.data.formats import Parsed, parse
from luthier.data.reading.files import check_file
from luthier.data.reading.read import ending, read_rows, survey
from luthier.data.reading.tables import Accidents, no_rows
from luthier.data.types import BadRow, Conversation, Feedback, Preference, Row, Sample, Text
from luthier.errors import FileAccessError, FormatError, NoRowsError, SettingsError

Objective = Literal["sft", "dpo", "kto", "text"]


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """A file that was read: its SHA-256 as hexadecimal text, and how many rows it has, bad ones
    included."""

    path: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Loaded:
    """What the data sets hold.

    `mix`: samples of each format, over all files.  `bad`: rows that cannot be used, each with its
    reason.  `unused`: rows in which a column that no format uses was left aside.  `notices`: files
    not read, columns not used, and cells that look like several rows.  `columns`: how they were read.
    """

    samples: list[Sample]
    mix: dict[str, int]
    bad: list[BadRow]
    files: list[LoadedFile]
    unused: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    columns: Mapping[str, str] = field(default_factory=dict)


def load_samples(
    datasets: Sequence[str] | str,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    objective: Objective | str | None = "sft",
) -> Loaded:
    """The samples of one or several data sets, in the order of files and rows.

    Args:
        datasets: Files, directories, patterns, or hub ids; see `luthier.data.reading.read.expand`.
        columns: Our field names for theirs; see `luthier.data.formats.columns`.
        encoding: Of the text files; None is UTF-8.
        objective: What the samples are for: `sft` takes conversations and texts, `dpo` pairs,
            `kto` answers with a label, `text` texts.  None takes everything, as the doctor does.

    Raises:
        DataError: A file cannot be read, has no rows, is in no known format or in two, or holds
            rows that the objective cannot use.
    """
    names = [datasets] if isinstance(datasets, str) else list(datasets)
    found = survey(names)
    paths = found.paths
    if not paths:
        raise NoRowsError(
            "no data set is given", why="there is nothing to learn from", fix="--dataset rows.jsonl"
        )
    whole = Loaded([], {}, [], [], {}, list(found.notices), columns or {})
    mix: Counter[str] = Counter()
    unused: Counter[str] = Counter()
    for path in paths:
        parsed, file = _load_file(path, columns, encoding, whole.notices)
        _check_objective(parsed, objective, path)
        whole.samples.extend(parsed.samples)
        whole.bad.extend(parsed.bad)
        whole.files.append(file)
        mix.update(parsed.mix)
        unused.update(parsed.unused)
    whole.mix.update(mix)
    whole.unused.update(unused)
    if unused:
        named = ", ".join(f"{name} ({count:,} rows)" for name, count in unused.most_common(20))
        whole.notices.append(f"columns that are not used: {named}")
    return whole


def _load_file(
    path: Path,
    columns: Mapping[str, str] | None,
    encoding: str | None,
    notices: list[str],
) -> tuple[Parsed, LoadedFile]:
    before = check_file(path)
    rows: list[Row] = []
    bad: list[BadRow] = []
    accidents = Accidents(path, ending(path))
    for row in read_rows(path, encoding=encoding):
        if isinstance(row, Row):
            accidents.see(row)
            rows.append(row)
        else:
            bad.append(row)
    if not rows and not bad:
        raise no_rows(str(path))
    notices += accidents.notices()
    parsed = parse(rows, columns=columns)
    if bad:
        everything = sorted([*bad, *parsed.bad], key=lambda row: row.origin.line)
        parsed = Parsed(parsed.samples, parsed.mix, everything, parsed.unused)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FileAccessError(
            f"{path} changed while it was read",
            why="a run is tied to the exact rows it learned from",
            fix="start again when the file is complete",
        )
    return parsed, LoadedFile(str(path), digest, len(rows) + len(bad))


_WANTED: Mapping[str, tuple[type, ...]] = {
    "sft": (Conversation, Text),
    "dpo": (Preference,),
    "kto": (Feedback,),
    "text": (Text,),
}
_NAMES: Mapping[type, str] = {
    Conversation: "conversations",
    Preference: "preference pairs",
    Text: "texts",
    Feedback: "answers with a label",
}
_FIX: Mapping[type, str] = {
    Conversation: "--objective sft",
    Text: "--objective text, or --objective sft for chats written as text",
    Preference: "--objective dpo; or for rows with a prompt and a chosen text, learn the chosen "
    "ones: columns: {prompt: prompt, completion: chosen}",
    Feedback: "--objective kto; or keep the rows whose label is true and learn those as "
    "conversations: columns: {messages: messages}",
}


def _check_objective(parsed: Parsed, objective: str | None, path: Path) -> None:
    """Refuse samples that the objective cannot use, naming the one that can."""
    if objective is None:
        return
    if objective not in _WANTED:
        raise SettingsError(
            f"objective {objective!r} is not known", why=f"it is one of {', '.join(_WANTED)}"
        )
    wanted = _WANTED[objective]
    for kind, name in _NAMES.items():
        wrong = [s for s in parsed.samples if isinstance(s, kind)] if kind not in wanted else []
        if wrong:
            takes = " and ".join(_NAMES[k] for k in wanted)
            count = f"{len(wrong)} of its {len(parsed.samples)} samples are {name}"
            raise FormatError(
                f"{path}: {count}, the first at line {wrong[0].origin.line}",
                why=f"objective {objective} learns from {takes}",
                fix=_FIX[kind],
            )
