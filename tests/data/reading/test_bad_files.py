"""Bad data files: each has a stated outcome, in one sentence, in bounded memory.

The numbers D1 to D40 are those of the table of bad inputs; bad rows have a file of their own.
"""

import gzip
import json
import os
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from luthier.data.load import load_samples
from luthier.data.reading.read import expand, read_rows
from luthier.data.types import BadRow, Conversation, Row, Text
from luthier.errors import (
    DataError,
    EncodingError,
    FileAccessError,
    LimitError,
    MalformedFileError,
    NoRowsError,
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


REFUSED = {
    "D1 empty": (b"", NoRowsError, "no rows"),
    "D2 blank lines": (b"\n  \n\r\n", NoRowsError, "no rows"),
    "D4 invalid JSON": (
        b"\n".join([LINE.encode()] * 6 + [b'{"messages": [,]}'] + [LINE.encode()] * 3),
        MalformedFileError,
        r"line 7, column 15",
    ),
    "D5 truncated": (
        LINE.encode() + b"\n" + LINE.encode()[:30],
        MalformedFileError,
        "line 2.*truncated",
    ),
    "D5 truncated in a string": (
        LINE.encode() + b'\n{"text": "ab',
        MalformedFileError,
        "truncated",
    ),
    "D5 truncated array": (b"[" + LINE.encode() + b",", MalformedFileError, "truncated"),
    "D5 array not closed": (b"[" + LINE.encode(), MalformedFileError, "truncated"),
    "D5 truncated character": (b'{"text": "caf\xc3', EncodingError, "line 1"),
    "D7 UTF-16": (LINE.encode("utf-16"), EncodingError, "UTF-16"),
    "D7 UTF-16 without a mark": (LINE.encode("utf-16-le"), EncodingError, "utf-16-le"),
    "D7 UTF-16 big-endian": (LINE.encode("utf-16-be"), EncodingError, "utf-16-be"),
    "D7 Latin-1": ('{"text": "caf\xe9"}'.encode("latin-1"), EncodingError, "cp1252"),
    "D7 Chinese": ('{"text": "患者三十年前"}'.encode("gb18030"), EncodingError, "gb18030"),
    "D8 invalid bytes": (LINE.encode() + b'\n{"text": "\xff"}', EncodingError, "line 2"),
    "D8 lone surrogate": (b'{"text": "a\\ud800b"}', MalformedFileError, "line 1: .*surrogate"),
    "D8 in an array": (b'[{"text": "a\\udfffb"}]', MalformedFileError, "surrogate"),
    "D9 raw NUL": (b'{"text": "a\0b"}', MalformedFileError, "line 1"),
    "D12 NaN": (b'{"text": "a", "x": NaN}', MalformedFileError, "NaN is not JSON"),
    "D12 Infinity": (b'[{"x": -Infinity}]', MalformedFileError, "-Infinity is not JSON"),
    "D12 1e999": (b'{"x": 1e999}', MalformedFileError, "1e999"),
    "D12 long integer": (b'{"x": ' + b"9" * 5000 + b"}", MalformedFileError, "line 1"),
    "D13 duplicate key": (
        b'{"text": "a", "text": "b"}',
        MalformedFileError,
        "'text' is given twice",
    ),
    "D13 nested": (b'{"messages": [{"role": "user", "role": "x"}]}', MalformedFileError, "'role'"),
    "D14 depth": (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", LimitError, "nested"),
    "D14 depth in an array": (b"[" * 100_000 + b"]" * 100_000, LimitError, "nested"),
    "D14 just too deep": (b'{"x": ' + b"[" * 201 + b"]" * 201 + b"}", LimitError, "200"),
    "two values": (b'{\n"a": 1\n}\n{\n"a": 2\n}', MalformedFileError, "second JSON value"),
    "after the array": (b'[{"text": "a"}] x', MalformedFileError, "after the end of the array"),
    "no comma": (b'[{"text": "a"} {"text": "b"}]', MalformedFileError, "missing"),
    "trailing comma": (b'[{"text": "a"},]', MalformedFileError, "column 16"),
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
    with pytest.raises(MalformedFileError) as refused:
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
        MalformedFileError,
        "line 3: 1 cells.*header has 2",
    ),
    "open quote": (b'prompt,completion\n"a,b\n', MalformedFileError, "line 2: .*never closed"),
    "column twice": (b"prompt,prompt\na,b\n", MalformedFileError, "'prompt' is there twice"),
    "NUL": (b"prompt,completion\na,b\0\n", MalformedFileError, "NUL"),
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
        (gzip.compress(LINE.encode())[:-12], "d.jsonl.gz", MalformedFileError, "truncated|sound"),
        (b"PK\x03\x04rest", "e.jsonl", FileAccessError, "zip archive"),
        (b"PAR1rest", "f.json", FileAccessError, "Parquet"),
        (b"plain", "g.jsonl.gz", MalformedFileError, "not a sound gzip"),
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
