"""Bad data files and rows: each has a stated outcome, in one sentence, in bounded memory.

The numbers D1 to D42 are those of the table of bad inputs; those about rendering, duplicates and
runs are tested where that happens.
"""

import gzip
import json
import os
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from luthier.data.load import Loaded, load_samples
from luthier.data.read import expand, read_rows
from luthier.data.types import BadRow, Conversation, Row, Text
from luthier.errors import (
    DataError,
    EncodingError,
    FileAccessError,
    FormatError,
    LimitError,
    NoRowsError,
    SyntaxProblem,
)

USER = {"role": "user", "content": "hi"}
GOOD = {"messages": [USER, {"role": "assistant", "content": "hello"}]}
LINE = json.dumps(GOOD)


def turns(*messages: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"messages": list(messages), **beside}


def assistant(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "hello", **fields}


def write(folder: Path, content: bytes | str, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def load_row(folder: Path, row: Any) -> Loaded:
    """A good row, then the row in question."""
    return load_samples([write(folder, f"{LINE}\n{json.dumps(row)}\n")], objective=None)


REFUSED = {
    "D1 empty": (b"", NoRowsError, "no rows"),
    "D2 blank lines": (b"\n  \n\r\n", NoRowsError, "no rows"),
    "D4 invalid JSON": (
        b"\n".join([LINE.encode()] * 6 + [b'{"messages": [,]}'] + [LINE.encode()] * 3),
        SyntaxProblem,
        r"line 7, column 15",
    ),
    "D5 truncated": (
        LINE.encode() + b"\n" + LINE.encode()[:30],
        SyntaxProblem,
        "line 2.*truncated",
    ),
    "D5 truncated in a string": (LINE.encode() + b'\n{"text": "ab', SyntaxProblem, "truncated"),
    "D5 truncated array": (b"[" + LINE.encode() + b",", SyntaxProblem, "truncated"),
    "D5 array not closed": (b"[" + LINE.encode(), SyntaxProblem, "truncated"),
    "D5 truncated character": (b'{"text": "caf\xc3', EncodingError, "line 1"),
    "D7 UTF-16": (LINE.encode("utf-16"), EncodingError, "UTF-16"),
    "D7 UTF-16 without a mark": (LINE.encode("utf-16-le"), EncodingError, "utf-16-le"),
    "D7 UTF-16 big-endian": (LINE.encode("utf-16-be"), EncodingError, "utf-16-be"),
    "D7 Latin-1": ('{"text": "caf\xe9"}'.encode("latin-1"), EncodingError, "cp1252"),
    "D7 Chinese": ('{"text": "患者三十年前"}'.encode("gb18030"), EncodingError, "gb18030"),
    "D8 invalid bytes": (LINE.encode() + b'\n{"text": "\xff"}', EncodingError, "line 2"),
    "D8 lone surrogate": (b'{"text": "a\\ud800b"}', SyntaxProblem, "line 1: .*surrogate"),
    "D8 in an array": (b'[{"text": "a\\udfffb"}]', SyntaxProblem, "surrogate"),
    "D9 raw NUL": (b'{"text": "a\0b"}', SyntaxProblem, "line 1"),
    "D12 NaN": (b'{"text": "a", "x": NaN}', SyntaxProblem, "NaN is not JSON"),
    "D12 Infinity": (b'[{"x": -Infinity}]', SyntaxProblem, "-Infinity is not JSON"),
    "D12 1e999": (b'{"x": 1e999}', SyntaxProblem, "1e999"),
    "D12 long integer": (b'{"x": ' + b"9" * 5000 + b"}", SyntaxProblem, "line 1"),
    "D13 duplicate key": (b'{"text": "a", "text": "b"}', SyntaxProblem, "'text' is given twice"),
    "D13 nested": (b'{"messages": [{"role": "user", "role": "x"}]}', SyntaxProblem, "'role'"),
    "D14 depth": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", LimitError, "nested"),
    "D14 depth in an array": (b"[" * 100_000 + b"]" * 100_000, LimitError, "nested"),
    "D14 just too deep": (b'{"x": ' + b"[" * 201 + b"]" * 201 + b"}", LimitError, "200"),
    "two values": (b'{\n"a": 1\n}\n{\n"a": 2\n}', SyntaxProblem, "second JSON value"),
    "after the array": (b'[{"text": "a"}] x', SyntaxProblem, "after the end of the array"),
    "no comma": (b'[{"text": "a"} {"text": "b"}]', SyntaxProblem, "missing"),
    "trailing comma": (b'[{"text": "a"},]', SyntaxProblem, "column 16"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    content, kind, fragment = REFUSED[case]
    with pytest.raises(kind, match=fragment) as refused:
        load_samples([write(tmp_path, content)])
    assert "rows.jsonl" in refused.value.what
    assert len(str(refused.value).splitlines()) <= 3


def test_every_bad_line_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    lines = [LINE, "{", LINE, '{"a": NaN}', LINE, "nonsense", LINE]
    with pytest.raises(SyntaxProblem) as refused:
        list(read_rows(write(tmp_path, "\n".join(lines))))
    assert [n for n in range(1, 8) if f"line {n}" in str(refused.value)] == [2, 4, 6]


ACCEPTED = {
    "D3 one row": (LINE, 1),
    "D6 byte-order mark": ("\ufeff" + LINE + "\n", 1),
    "D6 in an array": ("\ufeff[" + LINE + "]", 1),
    "D10 CRLF": (f"{LINE}\r\n{LINE}\r\n", 2),
    "D10 mixed": (f"{LINE}\n{LINE}\r\n\n{LINE}\r{LINE}", 4),
    "D11 array in .jsonl": (f"[{LINE}, {LINE}]", 2),
    "D11 array over lines": (json.dumps([GOOD] * 3, indent=2), 3),
    "D14 deep enough": (json.dumps({**GOOD, "x": json.loads("[" * 150 + "]" * 150)}), 1),
    "one object over lines": (json.dumps(GOOD, indent=2), 1),
    "brackets in text": (json.dumps(turns(USER, assistant(content="[{" * 500))), 1),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_an_odd_file_is_accepted(tmp_path: Path, case: str) -> None:
    content, rows = ACCEPTED[case]
    loaded = load_samples([write(tmp_path, content)])
    assert (len(loaded.samples), loaded.bad) == (rows, [])


def test_json_lines_in_a_json_file_are_accepted(tmp_path: Path) -> None:
    """D11, the other way round."""
    assert len(load_samples([write(tmp_path, f"{LINE}\n{LINE}", "rows.json")]).samples) == 2


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "D16 list": ([1, 2], "a list, not an object"),
    "D16 number": (3, "a number, not an object"),
    "D16 string": ("text", "a string, not an object"),
    "D16 null": (None, "null, not an object"),
    "D17 misspelt": ({"promt": "a", "completion": "b"}, "'promt' looks like 'prompt'"),
    "D17 no rejected": ({"prompt": "a", "chosen": "b"}, "would need 'rejected'"),
    "D17 null": ({"prompt": "a", "completion": None}, "'completion'"),
    "D17 nothing": ({}, "no fields"),
    "D19 unknown role": (turns(USER, {"role": "alien", "content": "x"}), "'alien', is unknown"),
    "D19 role a number": (turns(USER, {"role": 7, "content": "x"}), "a number, not a string"),
    "D19 no role": (turns(USER, {"content": "x"}), "message 2 has no 'role'"),
    "D20 no assistant": (turns(USER), "no assistant message"),
    "D20 no turns": (turns(), "messages is empty"),
    "D20 turn a string": (turns(USER, "hello"), "message 2 is a string"),  # type: ignore[arg-type]
    "D21 null": (turns(USER, assistant(content=None)), "'content' is null"),
    "D21 number": (turns(USER, assistant(content=5)), "a number, not text"),
    "D21 object": (turns(USER, assistant(content={"a": 1})), "an object, not text"),
    "D21 unknown part": (
        turns(USER, assistant(content=[{"type": "image_url", "image_url": "x"}])),
        "'image_url'; only text",
    ),
    "D22 empty": (turns(USER, assistant(content="")), "message 2, an answer, is empty"),
    "D22 white space": (turns(USER, assistant(content=" \n\t")), "is empty"),
    "D22 Alpaca": ({"instruction": "a", "input": "", "output": " "}, "the answer, is empty"),
    "D22 in the middle": (turns(USER, assistant(content=""), USER, assistant()), "message 2"),
    "empty question": (turns({"role": "user", "content": ""}, assistant()), "a question, is empty"),
    "D23 the same": ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
    "D24 other prompt": (
        {"chosen": [USER, assistant()], "rejected": [{**USER, "content": "ho"}, assistant()]},
        "different prompts",
    ),
    "D24 transcripts": (
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
        "different prompts",
    ),
    "D24 no prompt": ({"chosen": "b", "rejected": "c"}, "there is no prompt"),
    "D24 prompt repeated wrongly": (
        {"prompt": "a", "chosen": [USER, assistant()], "rejected": "c"},
        "another prompt",
    ),
    "D25 rejected empty": ({"prompt": "a", "chosen": "b", "rejected": ""}, "rejected is empty"),
    "prompt ends with an answer": (
        {"messages": [USER, assistant()], "chosen": "b", "rejected": "c"},
        "ends with an answer",
    ),
    "D26 arguments not JSON": (
        turns(USER, assistant(tool_calls=[{"function": {"name": "f", "arguments": "{"}}])),
        "the arguments of f is not JSON",
    ),
    "D26 arguments a list": (
        turns(USER, assistant(tool_calls=[{"function": {"name": "f", "arguments": [1]}}])),
        "a list, not an object",
    ),
    "D26 no name": (turns(USER, assistant(tool_calls=[{"arguments": {}}])), "without a name"),
    "D26 unknown tool": (
        turns(USER, assistant(tool_calls=[{"name": "g", "arguments": {}}]), tools=[{"name": "f"}]),
        "calls 'g', which is not among its tools",
    ),
    "D26 calls of a user": (turns({**USER, "tool_calls": [{"name": "f"}]}, assistant()), "is user"),
    "D26 result of no call": (
        turns(
            USER,
            assistant(tool_calls=[{"name": "f", "id": "1"}]),
            {"role": "tool", "tool_call_id": "2", "content": "x"},
        ),
        "'2', which nobody made",
    ),
    "D26 tools not JSON": (turns(USER, assistant(), tools="[{"), "tools is not JSON"),
    "D41 homoglyph": (
        turns(USER, {"role": "assistant", "\u0441ontent": "x"}),
        r"'\u0441ontent'",
    ),
    "D41 homoglyph field": ({"te\u0445t": "x"}, r"'te\u0445t'"),
    "D42 negative": (turns(USER, assistant(weight=-1)), "from 0 to 1"),
    "D42 two": (turns(USER, assistant(weight=2)), "from 0 to 1"),
    "D42 text": (turns(USER, assistant(weight="1")), "from 0 to 1"),
    "D42 boolean": (turns(USER, assistant(weight=True)), "from 0 to 1"),
    "label a word": (turns(USER, assistant(), label="math"), "not true or false"),
    "system twice": (
        turns({"role": "system", "content": "a"}, USER, assistant(), system="b"),
        "beside another",
    ),
    "text a number": ({"text": 5}, "a number, not text"),
    "text empty": ({"text": " "}, "is empty"),
    "history not pairs": (
        {"instruction": "a", "output": "b", "history": [["x"]]},
        "round 1 of the history",
    ),
    "both names of a role": (turns(USER, assistant(**{"from": "gpt"})), "both 'role' and 'from'"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_with_its_reason(tmp_path: Path, case: str) -> None:
    row, reason = BAD_ROWS[case]
    loaded = load_row(tmp_path, row)
    assert len(loaded.samples) == 1
    assert [bad.origin.line for bad in loaded.bad] == [2]
    assert reason in loaded.bad[0].reason


def test_weights_that_are_not_numbers_never_reach_a_row(tmp_path: Path) -> None:
    """D42, NaN: refused by the reader already."""
    with pytest.raises(SyntaxProblem, match="NaN"):
        load_row(tmp_path, turns(USER, assistant(weight=float("nan"))))


ODD_ROWS: dict[str, tuple[Any, list[str]]] = {
    "D20 assistant first": (
        turns(assistant(), USER, assistant()),
        ["assistant", "user", "assistant"],
    ),
    "D20 two in a row": (turns(USER, assistant(), assistant()), ["user", "assistant", "assistant"]),
    "D20 system in the middle": (
        turns(USER, {"role": "system", "content": "x"}, assistant()),
        ["user", "system", "assistant"],
    ),
    "D20 user last": (turns(USER, assistant(), USER), ["user", "assistant", "user"]),
    "developer": (
        turns({"role": "developer", "content": "x"}, USER, assistant()),
        ["system", "user", "assistant"],
    ),
    "system empty": (
        turns({"role": "system", "content": " "}, USER, assistant()),
        ["user", "assistant"],
    ),
    "any case": (turns({"role": "User", "content": "a"}, assistant()), ["user", "assistant"]),
    "D26 calls null": (turns(USER, assistant(tool_calls=None)), ["user", "assistant"]),
    "D31 one character": ({"prompt": "a", "completion": "b"}, ["user", "assistant"]),
    "empty answer of weight 0": (
        turns(USER, assistant(content="", weight=0), USER, assistant()),
        ["user", "assistant", "user", "assistant"],
    ),
}


@pytest.mark.parametrize("case", ODD_ROWS)
def test_an_odd_row_is_accepted_as_it_is(tmp_path: Path, case: str) -> None:
    row, roles = ODD_ROWS[case]
    loaded = load_row(tmp_path, row)
    assert not loaded.bad
    assert isinstance(loaded.samples[1], Conversation)
    assert [m.role for m in loaded.samples[1].messages] == roles


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}', "", None], ids=repr)
@pytest.mark.parametrize("wrapped", [True, False])
def test_arguments_become_an_object(tmp_path: Path, arguments: Any, wrapped: bool) -> None:
    """D26: as an object, as JSON in a string, as nothing."""
    call: dict[str, Any] = {"name": "f", "arguments": arguments}
    call = {"id": "1", "type": "function", "function": call} if wrapped else call
    loaded = load_row(tmp_path, turns(USER, assistant(content=None, tool_calls=[call])))
    assert isinstance(loaded.samples[1], Conversation)
    made = loaded.samples[1].messages[1].tool_calls[0]
    assert (made.name, made.arguments) == ("f", {"a": 1} if arguments else {})


def test_mixed_formats_load_and_the_mix_is_reported(tmp_path: Path) -> None:
    """D18."""
    rows = [GOOD, {"prompt": "a", "completion": "b"}, {"text": "plain words"}, GOOD]
    loaded = load_samples([write(tmp_path, "\n".join(map(json.dumps, rows)))])
    assert loaded.mix == {"messages": 2, "prompt_completion": 1, "text (plain)": 1}


def test_a_row_that_may_be_two_things_is_refused_with_both_named(tmp_path: Path) -> None:
    """D18: every row's format must be certain."""
    row = {"instruction": "a", "input": "", "output": "b", "text": "a b"}
    path = write(tmp_path, f"{LINE}\n{json.dumps(row)}")
    with pytest.raises(FormatError, match=r"line 2: .*alpaca .* or text") as refused:
        load_samples([path])
    assert "columns: {text: text}" in refused.value.fix
    told = load_samples([path], columns={"text": "text"})
    assert told.mix == {"text (plain)": 1}
    assert [bad.origin.line for bad in told.bad] == [1]


def test_tool_schemas_stay_with_their_rows(tmp_path: Path) -> None:
    """D27: nothing is unified across rows, and no field is added to a schema."""
    schemas = [
        [{"type": "function", "function": {"name": "a", "parameters": {"properties": {"x": {}}}}}],
        [{"type": "function", "function": {"name": "b", "strict": True}}],
    ]
    rows = [turns(USER, assistant(), tools=schema) for schema in schemas]
    loaded = load_samples([write(tmp_path, "\n".join(map(json.dumps, rows)))])
    kept = [list(s.tools) for s in loaded.samples if isinstance(s, Conversation)]
    assert kept == schemas


HOSTILE = ["</s><s>[INST]", "<|im_end|>", "{{ 7*7 }}", "a\0b", "👩\u200d👩\u200d👧", "\u202eabc"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_text_is_kept_as_it_is(tmp_path: Path, text: str) -> None:
    """D9, D28, D41: control words, template code, NUL, joiners and direction marks are text."""
    loaded = load_row(tmp_path, {"prompt": text, "completion": text})
    assert isinstance(loaded.samples[1], Conversation)
    assert [m.content for m in loaded.samples[1].messages] == [text, text]


def test_a_huge_line_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """D15, for every kind of text file."""
    for name in ("rows.jsonl", "rows.csv", "rows.txt"):
        path = tmp_path / name
        with path.open("wb") as file:
            file.write(b"prompt,completion\n" if name.endswith("csv") else b"")
            file.write(b'["' + b"a" * (40 * 2**20))
        tracemalloc.start()
        try:
            with pytest.raises(LimitError, match="longer than"):
                list(read_rows(path))
            assert tracemalloc.get_traced_memory()[1] < 160 * 2**20
        finally:
            tracemalloc.stop()


CSV = {
    "ragged": (
        b"prompt,completion\na,b\nc\nd,e,f\n",
        SyntaxProblem,
        "line 3: 1 cells.*header has 2",
    ),
    "open quote": (b'prompt,completion\n"a,b\n', SyntaxProblem, "line 2: .*never closed"),
    "column twice": (b"prompt,prompt\na,b\n", SyntaxProblem, "'prompt' is there twice"),
    "NUL": (b"prompt,completion\na,b\0\n", SyntaxProblem, "NUL"),
    "empty": (b"", NoRowsError, "no rows"),
    "header only": (b"prompt,completion\n", NoRowsError, "no rows"),
}


@pytest.mark.parametrize("case", CSV)
def test_a_bad_csv_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    """D33."""
    content, kind, fragment = CSV[case]
    with pytest.raises(kind, match=fragment):
        load_samples([write(tmp_path, content, "rows.csv")])


@pytest.mark.parametrize("mark", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_csv_cells_are_text(tmp_path: Path, mark: str) -> None:
    """D33: formula cells, quotes, line ends; the header says what separates."""
    lines = [f"prompt{mark}completion", f'=1+1{mark}"say ""x""', f'b{mark} c"']
    loaded = load_samples([write(tmp_path, "\r\n".join(lines), "rows.csv")])
    assert isinstance(loaded.samples[0], Conversation)
    question, answer = loaded.samples[0].messages
    assert (question.content, answer.content) == ("=1+1", f'say "x"\r\nb{mark} c')


def test_gzip_bombs_and_wrong_endings_are_refused(tmp_path: Path) -> None:
    """D35."""
    bomb = gzip.compress(b" " * (64 * 2**20))
    cases = [
        (bomb, "a.jsonl.gz", LimitError, "grows"),
        (gzip.compress(gzip.compress(LINE.encode())), "b.jsonl.gz", FileAccessError, "is gzip"),
        (gzip.compress(LINE.encode()), "c.jsonl", FileAccessError, "it is gzip"),
        (gzip.compress(LINE.encode())[:-12], "d.jsonl.gz", SyntaxProblem, "truncated|sound"),
        (b"PK\x03\x04rest", "e.jsonl", FileAccessError, "zip archive"),
        (b"PAR1rest", "f.json", FileAccessError, "Parquet"),
        (b"plain", "g.jsonl.gz", SyntaxProblem, "not a sound gzip"),
        (b"x", "h.xlsx", FileAccessError, "ending"),
    ]
    for content, name, kind, fragment in cases:
        with pytest.raises(kind, match=fragment):
            list(read_rows(write(tmp_path, content, name)))
    whole = write(tmp_path, gzip.compress(LINE.encode()), "good.jsonl.gz")
    assert len(load_samples([whole]).samples) == 1


def test_what_is_no_plain_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D36."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "dangling.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    server = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    server.bind("s.jsonl")
    cases = [
        (tmp_path / "pipe.jsonl", "a pipe"),
        (tmp_path / "dangling.jsonl", "which does not exist"),
        (tmp_path / "loop.jsonl", "back to itself"),
        (tmp_path / "s.jsonl", "a socket"),
        (tmp_path / "missing.jsonl", "does not exist"),
        (Path("/dev/zero"), "a character device|says nothing"),
    ]
    try:
        for path, fragment in cases:
            with pytest.raises(FileAccessError, match=fragment):
                load_samples([str(path)])
    finally:
        server.close()
    (tmp_path / "inside.jsonl").symlink_to("/proc/self/status")
    with pytest.raises(FileAccessError, match="operating system"):
        load_samples([str(tmp_path / "inside.jsonl")])


def test_links_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    """D36."""
    outside = write(tmp_path, LINE, "outside.jsonl")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "rows.jsonl").symlink_to(outside)
    with pytest.raises(FileAccessError, match="out of"):
        expand([str(folder)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused_with_the_system_s_words(tmp_path: Path) -> None:
    """D39."""
    path = write(tmp_path, LINE)
    Path(path).chmod(0)
    with pytest.raises(FileAccessError, match="Permission denied"):
        load_samples([path])


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D37."""
    path = write(tmp_path, LINE)

    def growing(name: Path, *, encoding: str | None) -> Any:
        yield from read_rows(name, encoding=encoding)
        Path(path).write_text(LINE + "\n" + LINE)

    monkeypatch.setattr("luthier.data.load.read_rows", growing)
    with pytest.raises(FileAccessError, match="changed while it was read"):
        load_samples([path])


def test_rows_stream(tmp_path: Path) -> None:
    """D40: memory does not grow with the number of rows, lines and arrays alike."""
    for mark, start, end in (("\n", "", ""), (",\n", "[", "]")):
        path = write(tmp_path, start + mark.join([LINE] * 15_000) + end)
        tracemalloc.start()
        count = sum(isinstance(row, Row) for row in read_rows(path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 15_000
        assert peak < 8 * 2**20  # all rows together take 20 MiB


def test_rows_that_are_no_objects_are_rows(tmp_path: Path) -> None:
    """D16: all are reported, and none stops the reading."""
    path = write(tmp_path, '[1, "a", null, [2], {"text": "x"}]', "rows.json")
    kinds = [type(row) for row in read_rows(path)]
    assert kinds == [BadRow] * 4 + [Row]
    loaded = load_samples([path])
    assert [row.origin.line for row in loaded.bad] == [1, 2, 3, 4]
    assert isinstance(loaded.samples[0], Text)


def test_all_errors_are_data_errors() -> None:
    assert all(issubclass(kind, DataError) for _, kind, _ in [*REFUSED.values(), *CSV.values()])
