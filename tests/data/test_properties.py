"""What holds for any row: an answer or a reason, and the same one whatever stands beside it."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.formats import FORMATS, parse
from luthier.data.formats.detect import FIELD_NAMES
from luthier.data.load import load_samples
from luthier.data.reading.read import read_rows
from luthier.data.types import Origin, Row, Text
from luthier.errors import FormatError, LuthierError

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
KEYS = st.sampled_from(
    [
        *sorted(FIELD_NAMES),
        "role",
        "content",
        "from",
        "value",
        "tool_calls",
        "function_call",
        "name",
        "arguments",
        "function",
        "weight",
        "loss_weight",
        "type",
        "id",
        "tool_call_id",
        "reasoning",
    ]
) | st.text(max_size=4)
WORDS = st.sampled_from(
    ["user", "assistant", "human", "gpt", "function_call", "text", "{}", "[]", "x"]
)
JSON = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, JSON, max_size=4)


@st.composite
def near_rows(draw: st.DrawFn) -> dict[str, Any]:
    """A row of some format with parts of it replaced, removed or added."""
    row = json.loads(json.dumps(draw(st.sampled_from(FORMATS)).example))
    for _ in range(draw(st.integers(0, 3))):
        place = row
        while isinstance(place, (dict, list)) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, (dict, list)) and inner and draw(st.booleans()):
                place = inner
                continue
            place[key] = draw(JSON)
            break
    if draw(st.booleans()):
        row[draw(KEYS)] = draw(JSON)
    return dict(row)


ROWS = near_rows() | OBJECTS
QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(rows: list[dict[str, Any]]) -> dict[int, tuple[str, object]]:
    """By line: the sample without its form, or the reason."""
    parsed = parse([Row(row, Origin("rows.jsonl", line)) for line, row in enumerate(rows)])
    found: dict[int, tuple[str, object]] = {b.origin.line: ("bad", b.reason) for b in parsed.bad}
    for sample in parsed.samples:
        text = isinstance(sample, Text)
        found[sample.origin.line] = ("good", sample.text if text else repr(sample))  # type: ignore[union-attr]
    return found


@QUICK
@given(ROWS)
def test_any_object_gives_a_sample_a_reason_or_a_format_error(row: dict[str, Any]) -> None:
    try:
        found = outcome([row])
    except FormatError:
        return
    assert list(found) == [0]


@QUICK
@given(st.lists(ROWS, min_size=1, max_size=4), st.randoms())
def test_a_row_is_read_the_same_whatever_stands_beside_it(
    rows: list[dict[str, Any]], chance: Any
) -> None:
    anchor = {"prompt": "q", "completion": "a"}  # a file without one known row is refused whole
    alone = {}
    for index, row in enumerate(rows):
        try:
            alone[index] = outcome([row, anchor])[0]
        except FormatError:
            return  # a row that may be two things refuses the file
    order = list(range(len(rows)))
    chance.shuffle(order)
    together = outcome([rows[index] for index in order] + [anchor])
    for position, index in enumerate(order):
        kind, found = together[position]
        expected_kind, expected = alone[index]
        assert kind == expected_kind
        assert str(found).replace(f"line={position}", "line=0") == str(expected)


@QUICK
@given(
    st.binary(max_size=200), st.sampled_from(["rows.json", "rows.csv", "rows.txt", "rows.jsonl.gz"])
)
def test_any_bytes_give_rows_or_an_error_of_ours(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        error: LuthierError | None = None
        try:
            load_samples([str(path)], objective=None)
        except LuthierError as raised:
            error = raised
        assert error is None or name in error.what


@QUICK
@given(st.lists(OBJECTS, min_size=1, max_size=3), st.sampled_from([None, 1]), st.booleans())
def test_json_is_read_as_it_was_written(
    rows: list[dict[str, Any]], indent: int | None, ascii_only: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
        assert [dict(row.fields) for row in read_rows(path) if isinstance(row, Row)] == rows
        if indent is None:
            path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
            assert [dict(row.fields) for row in read_rows(path) if isinstance(row, Row)] == rows
