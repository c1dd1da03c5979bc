"""Group D of the bad inputs: what `luthier train` says of data that is wrong, and what it accepts.

Every case goes through the command itself.  A refusal is one error with exit status 2, before any
weight is read and with no run left behind; what is accepted trains one step and says what it did.
The same files are tested one function at a time in `tests/data`.
"""

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import tiny_model_folder

from luthier.cli.main import main

Make = Callable[[Path], Path]
Rows = list[Any]


def turns(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    return {
        "messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)],
        **more,
    }


GOOD = turns("How are you?", "Well.")
PAIR = {"prompt": "Two and two?", "chosen": "Four.", "rejected": "Five."}


def written(content: bytes | str, name: str = "rows.jsonl") -> Make:
    def make(folder: Path) -> Path:
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return folder / name

    return make


def rows(*some: Any) -> Make:
    return written("".join(json.dumps(row) + "\n" for row in some))


def said(role: Any, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def one_bad(row: Any) -> Make:
    """One bad row among five: above the one per cent that may be dropped."""
    return rows(GOOD, GOOD, row, GOOD, GOOD)


def answered(message: dict[str, Any], **more: Any) -> Make:
    return one_bad({"messages": [said("user", "Hi"), message], **more})


def link(target: str) -> Make:
    def make(folder: Path) -> Path:
        (folder / "rows.jsonl").symlink_to(target)
        return folder / "rows.jsonl"

    return make


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "rows.jsonl")
    return folder / "rows.jsonl"


def parquet(damage: Callable[[bytes], bytes]) -> Make:
    def make(folder: Path) -> Path:
        arrow, table = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        table.write_table(arrow.table({"prompt": ["a"] * 9, "completion": ["b"] * 9}), folder / "x")
        (folder / "rows.parquet").write_bytes(damage((folder / "x").read_bytes()))
        return folder / "rows.parquet"

    return make


def bomb(folder: Path) -> Path:
    with gzip.open(folder / "rows.jsonl.gz", "wb") as file:
        for _ in range(64):
            file.write(b" " * 2**22)
    return folder / "rows.jsonl.gz"


def call(arguments: Any, name: str = "look") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return said("assistant", "", tool_calls=[{"id": "1", "type": "function", "function": function}])


deep = "[" * 100_000 + "]" * 100_000
many = "".join(json.dumps(GOOD) + "\n" for _ in range(6))

REFUSED: dict[str, tuple[Make, str, str]] = {
    "D1 empty file": (written(b""), "no rows", "sft"),
    "D2 blank lines": (written("\n \n\n"), "no rows", "sft"),
    "D4 bad JSON": (written(many + "{'a': 1}\n" + many), "line 7", "sft"),
    "D5 cut off": (written(many + '{"messages": [{"ro'), "cut off|truncated", "sft"),
    "D7 UTF-16": (written(many.encode("utf-16")), "(?i)utf-16", "sft"),
    "D7 Latin-1": (written('{"prompt": "\xe9", "completion": "x"}\n'.encode("latin-1")), "UTF-8", "sft"),
    "D8 bytes": (written(b'{"prompt": "\xff\xfe", "completion": "x"}\n'), "line 1", "sft"),
    "D8 surrogate": (one_bad({"prompt": "\ud800", "completion": "x"}), "(?i)surrogate", "sft"),
    "D12 NaN": (written(many + '{"messages": NaN}\n'), "NaN", "sft"),
    "D12 1e999": (written(many + '{"messages": 1e999}\n'), "1e999|range|infin", "sft"),
    "D13 duplicate key": (written(many + '{"prompt": "a", "prompt": "b"}\n'), "twice|duplicate", "sft"),
    "D14 depth": (written(many + deep + "\n"), "deep|nest", "sft"),
    "D16 list": (one_bad([1]), "list", "sft"),
    "D16 number": (one_bad(3), "number", "sft"),
    "D16 string": (one_bad("x"), "string|text", "sft"),
    "D16 null": (one_bad(None), "null", "sft"),
    "D17 missing": (rows(*[{"mesages": GOOD["messages"]}] * 5), "messages", "sft"),
    "D18 uncertain": (one_bad({"foo": 1, "bar": 2}), "line 3", "sft"),
    "D19 role": (one_bad({"messages": [said("nobody", "x"), said("assistant", "y")]}), "nobody", "sft"),
    "D19 role number": (one_bad({"messages": [said(3, "x"), said("assistant", "y")]}), "number", "sft"),
    "D20 no answer": (one_bad({"messages": [said("user", "x")]}), "assistant|answer", "sft"),
    "D21 null": (answered(said("assistant", None)), "null", "sft"),
    "D21 number": (answered(said("assistant", 4)), "number", "sft"),
    "D21 part": (answered(said("assistant", [{"type": "hologram", "x": 1}])), "hologram", "sft"),
    "D22 empty": (answered(said("assistant", "")), "empty", "sft"),
    "D22 blank": (answered(said("assistant", "  \n")), "empty", "sft"),
    "D23 same": (rows(*[PAIR] * 4, {**PAIR, "rejected": PAIR["chosen"]}), "same", "dpo"),
    "D24 prompts": (
        rows(*[PAIR] * 4, {
            "chosen": [said("user", "a"), said("assistant", "b")],
            "rejected": [said("user", "c"), said("assistant", "d")],
        }),
        "prompt|same", "dpo",
    ),
    "D25 rejected": (rows(*[PAIR] * 4, {**PAIR, "rejected": ""}), "empty", "dpo"),
    "D26 arguments": (answered(call("{not json")), "JSON", "sft"),
    "D33 ragged": (written("prompt,completion\na,b\nc\n", "rows.csv"), "line 3|row", "sft"),
    "D33 quote": (written('prompt,completion\na,"b\n', "rows.csv"), "quote", "sft"),
    "D34 footer": (parquet(lambda data: data[:-20]), "(?i)parquet", "sft"),
    "D34 garbage": (parquet(lambda data: data[:40] + bytes(40) + data[80:]), "(?i)parquet", "sft"),
    "D35 bomb": (bomb, "", "sft"),
    "D35 ending": (written(gzip.compress(many.encode()), "rows.jsonl"), "(?i)gzip", "sft"),
    "D35 nested": (written(gzip.compress(gzip.compress(many.encode())), "rows.jsonl.gz"), "(?i)gzip|UTF-8", "sft"),
    "D36 pipe": (fifo, "pipe", "sft"),
    "D36 device": (link("/dev/zero"), "device", "sft"),
    "D36 dangling": (link("nowhere.jsonl"), "", "sft"),
    "D36 loop": (link("rows.jsonl"), "", "sft"),
    "D36 memory": (link("/proc/self/mem"), "", "sft"),
    "D42 negative": (answered(said("assistant", "y", weight=-1)), "weight", "sft"),
    "D42 two": (answered(said("assistant", "y", weight=2)), "weight", "sft"),
    "D42 text": (answered(said("assistant", "y", weight="1")), "weight", "sft"),
}  # fmt: skip

ACCEPTED: dict[str, tuple[Make, str]] = {
    "D3 one row": (rows(GOOD), "sft"),
    "D6 byte-order mark": (written(b"\xef\xbb\xbf" + many.encode()), "sft"),
    "D10 CRLF": (written(many.replace("\n", "\r\n", 3)), "sft"),
    "D11 array": (written(json.dumps([GOOD, GOOD])), "sft"),
    "D20 assistant first": (rows({"messages": [said("assistant", "Hi"), *GOOD["messages"]]}), "sft"),
    "D26 object": (rows(turns("a", "b"), {"messages": [said("user", "Hi"), said("assistant", "x", tool_calls=None)]}), "sft"),
    "D28 markup": (rows(turns("<|im_end|> </s> {{ 7*7 }}", "<|im_start|>system")), "sft"),
    "D29 prompt": (rows(*[turns("x " * 400, "y")] * 5), "sft"),
    "D31 one token": (rows(turns("a", "b")), "sft"),
    "D33 formula": (written("prompt,completion\n=1+1,@x\n", "rows.csv"), "sft"),
    "D33 semicolons": (written("prompt;completion\na;b\n", "rows.csv"), "sft"),
    "D41 marks": (rows(turns("\U0001f468\u200d\U0001f469 \u202eabc", "ok")), "sft"),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model_folder(tmp_path_factory.mktemp("model"), seed=1))


def train(capsys: Any, model: str, data: Path, run: Path, objective: str) -> tuple[int, str]:
    words = ["train", "--model", model, "--dataset", str(data), "--output_dir", str(run)]
    words += ["--objective", objective, "--max_steps", "1", "--seq_length", "64", "--lora_dim", "2"]
    with pytest.raises(SystemExit) as caught:
        main(words)
    shown = capsys.readouterr()
    return int(caught.value.code or 0), shown.out + shown.err


@pytest.mark.parametrize("case", REFUSED)
def test_data_that_cannot_be_used_is_refused(
    case: str, tmp_path: Path, model: str, capsys: Any
) -> None:
    make, message, objective = REFUSED[case]
    (tmp_path / "data").mkdir()
    code, text = train(capsys, model, make(tmp_path / "data"), tmp_path / "run", objective)
    assert code == 2, text
    assert text.count("error: ") == 1
    assert "Traceback" not in text
    assert re.search(message, text), text
    assert "fix:" in text
    assert len(text) < 6000
    checkpoints = tmp_path / "run" / "checkpoints"
    assert not (checkpoints.exists() and any(checkpoints.iterdir()))


@pytest.mark.parametrize("case", ACCEPTED)
def test_odd_data_is_used_as_it_is(case: str, tmp_path: Path, model: str, capsys: Any) -> None:
    make, objective = ACCEPTED[case]
    (tmp_path / "data").mkdir()
    code, text = train(capsys, model, make(tmp_path / "data"), tmp_path / "run", objective)
    assert code == 0, text
    report = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))["train"]
    assert report["rows"]["used"] == report["rows"]["read"] > 0
    assert report["supervised_tokens"] >= report["rows"]["used"]


def test_mixed_formats_train_and_the_mix_is_told(tmp_path: Path, model: str, capsys: Any) -> None:
    """D18: every row's format is certain."""
    data = rows(GOOD, {"instruction": "Say a.", "input": "", "output": "a"})(tmp_path)
    code, text = train(capsys, model, data, tmp_path / "run", "sft")
    assert code == 0, text
    mix = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))
    assert "messages" in json.dumps(mix)
    assert "alpaca" in json.dumps(mix)


def test_one_bad_row_in_many_is_dropped_and_listed(tmp_path: Path, model: str, capsys: Any) -> None:
    """D22, D23: up to one per cent goes to the ledger."""
    data = rows(*[GOOD] * 120, turns("a", ""))(tmp_path)
    code, text = train(capsys, model, data, tmp_path / "run", "sft")
    assert code == 0, text
    ledger = (tmp_path / "run" / "ledger.jsonl").read_text("utf-8").splitlines()
    assert len(ledger) == 1
    assert "121" in ledger[0]
    assert "empty" in ledger[0]


def test_an_unreadable_file_is_refused(tmp_path: Path, model: str, capsys: Any) -> None:
    """D39: root reads everything, so the folder is not one."""
    code, text = train(capsys, model, tmp_path / "rows.jsonl" / "x.jsonl", tmp_path / "run", "sft")
    assert code == 2
    assert "fix:" in text


def test_repeated_rows_are_counted(tmp_path: Path, model: str, capsys: Any) -> None:
    """D32."""
    code, text = train(capsys, model, rows(*[GOOD] * 50)(tmp_path), tmp_path / "run", "sft")
    assert code == 0, text
    assert "49 rows repeat an earlier row" in text


def test_rows_longer_than_the_limit_are_refused_with_their_lengths(
    tmp_path: Path, model: str, capsys: Any
) -> None:
    """D30: nothing is left when long rows are dropped."""
    data = rows(*[turns("x " * 400, "y")] * 5)(tmp_path)
    words = ["train", "--model", model, "--dataset", str(data), "--truncation", "drop"]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--seq_length", "64", "--output_dir", str(tmp_path / "run")])
    shown = capsys.readouterr()
    assert caught.value.code == 2
    assert "64" in shown.err
    assert re.search("shortest|lengths|longest|at most", shown.err), shown.err
