"""Readers: kinds of files, encodings, folders, patterns, hub ids."""

import gzip
import importlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.data.formats import parse
from luthier.data.reading import folders
from luthier.data.reading.read import expand, read_rows
from luthier.data.types import Conversation, Row
from luthier.errors import (
    DataError,
    EncodingError,
    FileAccessError,
    MalformedFileError,
    MissingExtraError,
)

ROWS = [{"prompt": "Größe? 患者 👩‍👧", "completion": f"answer {n}"} for n in range(5)]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
TABLE = "prompt,completion\n" + "\n".join(f"{r['prompt']},{r['completion']}" for r in ROWS)


def fields(path: Path, encoding: str | None = None) -> list[object]:
    found = list(read_rows(path, encoding=encoding))
    assert all(isinstance(row, Row) for row in found)
    return [dict(row.fields) for row in found if isinstance(row, Row)]


def lines(path: Path) -> list[int]:
    return [row.origin.line for row in read_rows(path)]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-32"]
)
@pytest.mark.parametrize(
    "name", ["r.jsonl", "r.json", "r.csv", "r.ndjson", "r.jsonl.gz", "r.csv.gz"]
)
def test_the_same_rows_from_every_kind_of_file(tmp_path: Path, name: str, encoding: str) -> None:
    text = TABLE if ".csv" in name else LINES
    text = json.dumps(ROWS, ensure_ascii=False) if name == "r.json" else text
    content = text.encode(encoding)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert fields(path, encoding) == ROWS
    if encoding.startswith("utf-8"):
        assert fields(path) == ROWS


@pytest.mark.parametrize("encoding", ["no-such-thing", "hex"])
def test_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES, encoding="utf-8")
    with pytest.raises(EncodingError, match=encoding):
        fields(path, encoding)


def test_a_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xe9"}\n')
    with pytest.raises(EncodingError, match="line 2 is not ASCII"):
        fields(path, "ascii")


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert lines(path) == [2, 4]
    table = tmp_path / "rows.csv"
    table.write_text('\na,b\n"1\n2",3\n\n4,5\n')
    assert lines(table) == [3, 6]
    array = tmp_path / "rows.json"
    array.write_text('[\n{"a": 1},\n\n{"a": 2}]')
    assert lines(array) == [1, 2]


def test_arrays_of_any_layout_stream_like_the_standard_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elements cut at every place by small chunks, numbers and strings included."""
    monkeypatch.setattr("luthier.data.reading.strict_json._CHUNK_CHARS", 7)
    values = [{"n": -12.5e3, "t": '"\\ué]}', "l": [1, [], {}]}, {"x": None, "y": [True, False]}, {}]
    path = tmp_path / "rows.json"
    for indent in (None, 0, 2):
        path.write_text(json.dumps(values, indent=indent))
        assert fields(path) == values


def test_plain_text_is_one_row_a_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("first line\n\nsecond, with a tab\t\r\n")
    assert fields(path) == [{"text": "first line"}, {"text": "second, with a tab\t"}]


def test_plain_text_with_paragraphs_is_one_row_a_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text("\n  Title\nby one\n\n\nIt was a\ndark night.\n \nThe end")
    texts = ["  Title\nby one", "It was a\ndark night.", "The end"]
    assert fields(path) == [{"text": text} for text in texts]
    assert lines(path) == [2, 6, 9]


def test_chats_in_a_text_file_are_one_row_a_line(tmp_path: Path) -> None:
    chat = "<s>[INST] q [/INST] a </s>"
    path = tmp_path / "rows.txt"
    path.write_text(f"{chat}\n{chat}\n\n{chat}\n")
    assert fields(path) == [{"text": chat}] * 3


def parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    arrow = importlib.import_module("pyarrow")
    importlib.import_module("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    return path


def test_parquet_rows_are_those_that_were_written(tmp_path: Path) -> None:
    path = parquet(tmp_path / "rows.parquet", [dict(row) for row in ROWS])
    assert fields(path) == ROWS
    assert lines(path) == [1, 2, 3, 4, 5]


def test_parquet_does_not_unify_tools_across_rows(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    schemas = [
        {"name": "f", "parameters": {"properties": {"x": {"type": "integer"}}}},
        {"name": "g", "parameters": {"properties": {"y": {"type": "string"}}}},
    ]
    rows: list[dict[str, object]] = [{"messages": turns, "tools": [schema]} for schema in schemas]
    path = parquet(tmp_path / "rows.parquet", rows)
    parsed = parse([row for row in read_rows(path) if isinstance(row, Row)])
    kept = [s.tools[0]["function"] for s in parsed.samples if isinstance(s, Conversation)]
    assert kept == schemas


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    """Cut anywhere, or with bytes changed: rows or one clear error, never anything else."""
    good = parquet(tmp_path / "good.parquet", [dict(row) for row in ROWS]).read_bytes()
    path = tmp_path / "bad.parquet"
    chance = random.Random(0)
    damaged = [good[:cut] for cut in (0, 3, 4, len(good) // 2, len(good) - 9, len(good) - 1)]
    for _ in range(60):
        changed = bytearray(good)
        changed[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(changed))
    refused = []
    for content in damaged:
        path.write_bytes(content)
        try:
            list(read_rows(path))
        except DataError as error:
            refused.append(error.what)
    assert len(refused) >= 6
    assert all("bad.parquet" in what for what in refused)


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = parquet(tmp_path / "rows.parquet", [dict(row) for row in ROWS])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"luthier\[parquet\]"):
        list(read_rows(path))


def test_a_folder_stands_for_its_data_files(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "a.json",
        "deep/c.csv",
        "d.JSONL.GZ",
        "README.md",
        ".hidden.jsonl",
        ".git/x.json",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = [str(path.relative_to(tmp_path)) for path in expand([str(tmp_path)])]
    assert names == ["a.json", "b.jsonl", "d.JSONL.GZ", "deep/c.csv"]
    assert [p.name for p in expand([str(tmp_path / "*.json*")])] == ["a.json", "b.jsonl"]
    with pytest.raises(FileAccessError, match="nothing matches"):
        expand([str(tmp_path / "*.parquet")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileAccessError, match="has no data files"):
        expand([str(tmp_path / "empty")])


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    with pytest.raises(FileAccessError, match=r"did you mean .*rows\.jsonl"):
        list(read_rows(tmp_path / "row.jsonl"))


def test_a_hub_id_is_fetched_and_its_training_files_chosen(tmp_path: Path) -> None:
    for name in ("data/train-00000.parquet", "data/test-00000.parquet", "dataset_infos.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    asked: list[str] = []

    def fetch(name: str) -> Path:
        asked.append(name)
        return tmp_path

    assert [p.name for p in expand(["owner/name"], fetch=fetch)] == ["train-00000.parquet"]
    assert asked == ["owner/name"]
    assert expand(["owner/name.jsonl"], fetch=fetch) == [Path("owner/name.jsonl")]
    assert asked == ["owner/name"], "a name that ends like a file is a file"


def test_without_train_in_a_name_held_out_files_are_left() -> None:
    here = Path("here")
    files = [here / name for name in ("a.jsonl", "test.jsonl", "validation.jsonl", "b.jsonl")]
    chosen = folders.choose("owner/name", here, files)
    assert chosen.learned == [files[0], files[3]]
    assert chosen.held_out == files[1:3]
    assert "--eval-dataset here/test.jsonl here/validation.jsonl" in chosen.notices("x")[0]
    with pytest.raises(FileAccessError):
        folders.choose("owner/name", here, files[1:3])


def test_a_hub_id_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"luthier\[hub\]"):
        expand(["owner/name"])


def test_a_hub_id_that_cannot_be_fetched_gives_one_error(tmp_path: Path) -> None:
    """In a process of its own: whether the hub may be reached is read when it is imported."""
    pytest.importorskip("huggingface_hub")
    code = "from luthier.data.reading.read import expand; expand(['owner/name-that-is-nowhere'])"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    last = done.stderr.split("FileAccessError: ")[-1].splitlines()
    assert "owner/name-that-is-nowhere is not a file here" in last[0]
    assert len(last) == 3


def test_reading_stops_at_the_first_error_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n1,2\n"open')
    reader = read_rows(path)
    assert next(reader).origin.line == 2
    with pytest.raises(MalformedFileError, match="line 3"):
        next(reader)
