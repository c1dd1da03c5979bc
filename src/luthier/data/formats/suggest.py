"""What would make rows of an unknown format load: `columns` to paste, or why nothing would."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.data.formats.aside import renamed
from luthier.data.formats.columns import Columns
from luthier.data.formats.guess import NAMES, guess_choices, guess_columns, text_columns
from luthier.data.formats.messages import KNOWN_ROLES
from luthier.data.formats.paste import both
from luthier.data.types import Row
from luthier.errors import FormatError

_LOOK = 200  # rows looked at for a suggestion
_ASKS = tuple(NAMES["question"].split())
_ANSWERS = tuple(NAMES["answer"].split())
_WHOLE = (
    frozenset({"instruction", "input", "output"}),
    frozenset({"instruction", "output"}),
    frozenset({"prompt", "completion"}),
    frozenset({"prompt", "response"}),
    frozenset({"question", "answer"}),
    frozenset({"messages"}),
)
_PYTHON_LIST = re.compile(r"\s*\[(?:'|\"[^\"]*\"\s*(?:,|\])).*\]\s*", re.DOTALL)
_BENCHMARKS = (
    (
        {"question", "function"},
        "these are a benchmark's questions with tool schemas; the file has no answers to learn from",
        "join each with its answer into messages with tools and tool_calls; luthier data formats",
    ),
    (
        {"ground_truth"},
        "these are a benchmark's accepted answers; the file has no questions",
        "join each with its question into messages with tools and tool_calls; luthier data formats",
    ),
    (
        {"data", "version"},
        "this is SQuAD's nesting of articles, a benchmark in one object, and no rows to train on",
        "write each question with its context as prompt and its answer as completion, one a line",
    ),
    (
        {"premise", "choice1", "choice2"},
        "these are choices of a benchmark (COPA), to measure with, and no rows to train on",
        "to train on them write premise and question as prompt, the right choice as completion",
    ),
)


def check_cells(rows: Sequence[Row], columns: Columns) -> None:
    """Refuse cells that hold Python lists: as text they would teach brackets and quotes.

    Raises:
        FormatError: In some column that is used, the first rows all hold one.
    """
    sample = rows[:_LOOK]
    if len(sample) < 2:
        return
    wanted = columns.used or frozenset(sample[0].fields)
    listed = [
        name
        for name in sample[0].fields
        if name in wanted
        and str(sample[0].fields[name])[:2] == "['"
        and all(_is_python_list(row.fields.get(name)) for row in sample)
    ]
    if listed:
        raise FormatError(
            f"{sample[0].origin.file}: the column {', '.join(map(repr, listed))} holds Python lists, "
            f"such as {sample[0].fields[listed[0]][:30]}...",
            why="they would be learned as they stand, brackets and quotes included",
            fix='join the words and write JSONL: python -c "import ast, csv, json, sys; '
            "[print(json.dumps({k: ' '.join(ast.literal_eval(v)) for k, v in r.items()})) "
            'for r in csv.DictReader(sys.stdin)]" < FILE > rows.jsonl',
        )


def _is_python_list(cell: Any) -> bool:
    return (
        isinstance(cell, str)
        and cell[:2] in ("['", '["')
        and _PYTHON_LIST.fullmatch(cell) is not None
    )


def suggest(rows: Sequence[Row]) -> tuple[str, str]:
    """Why and fix for rows without a known format; empty where nothing comes to mind."""
    fields = rows[0].fields
    for names, why, fix in _BENCHMARKS:
        if names <= fields.keys():
            return why, fix
    why, columns = suggest_columns(rows)
    return why, both(columns) if columns else ""


def suggest_columns(rows: Sequence[Row]) -> tuple[str, dict[str, str]]:
    """What rows without a known format look like, and `columns` that would make them load; both
    empty where nothing comes to mind."""
    fields = rows[0].fields
    if any(names <= fields.keys() for names, _, _ in _BENCHMARKS):
        return "", {}
    for name, value in fields.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            if columns := _turns(rows[:_LOOK], name):
                return f"{name!r} looks like the turns of a chat", columns
            if columns := _nested(fields, name):
                return f"the answer is inside {name!r}", columns
    if guess_choices(rows) and (columns := guess_columns(rows)):
        return "a question stands in several columns; a template puts them together", columns
    ours = renamed(fields)
    for wanted in _WHOLE:
        if wanted <= ours.keys() and any(ours[name] != name for name in wanted):
            beside = [name for name in ("system", "history", "tools") if name in ours]
            return (
                "names of the columns look like ours in another spelling",
                {name: ours[name] for name in (*sorted(wanted), *beside)},
            )
    if columns := guess_columns(rows):
        shown = [f"{name!r}" for name in columns.values()]
        alike = "a question and its answer" if len(shown) == 2 else "what is asked and answered"
        return f"{', '.join(shown[:-1])} and {shown[-1]} look like {alike}", columns
    return "", {}


def any_columns(rows: Sequence[Row]) -> dict[str, str]:
    """`columns` with names that are there, to be put right by whoever knows what they hold."""
    texts = text_columns(rows) or [str(name) for name in rows[0].fields]
    if len(texts) < 2:
        return {"text": texts[0]} if texts else {}
    return {"prompt": texts[0], "completion": texts[1]}


def _turns(rows: Sequence[Row], name: str) -> dict[str, str]:
    """`columns` for a list of turns: the key with few short values says who, the longest what."""
    texts: dict[str, list[str]] = {}
    for row in rows:
        turns = row.fields.get(name)
        for turn in turns if isinstance(turns, list) else ():
            for key, value in turn.items() if isinstance(turn, dict) else ():
                if isinstance(value, str):
                    texts.setdefault(str(key), []).append(value)
    most = max(map(len, texts.values()), default=0)
    always = {key: values for key, values in texts.items() if len(values) > 0.9 * most}
    speakers = [k for k, v in always.items() if 2 <= len({x.lower() for x in v}) <= 6]
    if len(always) < 2 or not speakers:
        return {}
    who = speakers[0]
    what = max((k for k in always if k != who), key=lambda k: sum(map(len, always[k])))
    columns = {"messages": name}
    columns |= {} if who in ("role", "from") else {"role": who}
    columns |= {} if what in ("content", "value") else {"content": what}
    return columns | _speakers(Counter(x.strip().lower() for x in always[who]), always[who])


def _speakers(counts: Counter[str], spelled: Sequence[str]) -> dict[str, str]:
    roles = {KNOWN_ROLES.get(name) for name in counts}
    if "assistant" in roles:
        return {}
    others = [name for name, _ in counts.most_common() if KNOWN_ROLES.get(name) is None]
    others = others or [name for name in counts if KNOWN_ROLES.get(name) == "system"]
    if "user" not in roles or not others:
        return {}
    return {"assistant_role": next(x for x in spelled if x.strip().lower() == others[0])}


def _nested(fields: Mapping[str, Any], name: str) -> dict[str, str]:
    inner = fields[name][0]
    answer = next((n for n in _ANSWERS if isinstance(inner.get(n), str)), None)
    outer = next((n for n in _ASKS if isinstance(fields.get(n), str)), None)
    if answer is None or outer is None:
        return {}
    asks = next((n for n in _ASKS if isinstance(inner.get(n), str)), None)
    if asks is None:
        return {"instruction": outer, "output": f"{name}.0.{answer}"}
    return {
        "instruction": outer,
        "input": f"{name}.0.{asks}",
        "output": f"{name}.0.{answer}",
    }
