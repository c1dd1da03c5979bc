"""`fix` mends what is safe to mend, says what it did, and has nothing to do the second time."""

import json
import re

import pytest
from tests.conftest import CHECKOUT
from tests.data.doctor.cases import CASES, ask, chat, pair

from luthier.data.doctor import fix
from luthier.data.doctor.rules import RULES
from luthier.errors import EncodingError, FileAccessError, MalformedFileError, NoRowsError

FIXED = {
    "empty-answer", "no-answer", "chosen-equals-rejected", "duplicate-rows", "ends-with-user",
    "tool-schema-types", "invisible-characters", "control-characters", "boundaries-doubled",
    "encoding-not-utf8",
}  # fmt: skip
SOUND = ask("What is the capital of France?", "The capital of France is Paris.")


def written(path, rows):
    if isinstance(rows, bytes):
        path.write_bytes(rows)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("code", sorted(FIXED))
def test_a_fix_is_listed_and_has_nothing_to_do_the_second_time(code, tmp_path):
    case = CASES[code]
    rows = case.bad if isinstance(case.bad, bytes) else [*case.bad, SOUND]
    if code == "encoding-not-utf8":
        rows = case.bad.decode("gb18030").encode("utf-16")  # its mark is no guess
    before = written(tmp_path / f"rows{case.ending}", rows)
    content = before.read_bytes()
    first = fix(before, tmp_path / f"once{case.ending}")
    assert first.done[code] >= 1
    entries = read(tmp_path / f"once{case.ending}.fixes.jsonl")
    assert [entry["code"] for entry in entries].count(code) == first.done[code]
    again = fix(tmp_path / f"once{case.ending}", tmp_path / f"twice{case.ending}")
    assert not again.done
    once, twice = (tmp_path / f"{name}{case.ending}" for name in ("once", "twice"))
    assert once.read_bytes() == twice.read_bytes()
    assert before.read_bytes() == content


def test_every_row_is_written_or_dropped_with_its_line(tmp_path):
    rows = [SOUND, ask("Hi.", ""), SOUND, chat(("user", "A?")), ask("Hi.", "Ho.")]
    report = fix(written(tmp_path / "rows.jsonl", rows), tmp_path / "new.jsonl")
    assert (report.rows, report.written) == (5, 2)
    assert read(tmp_path / "new.jsonl") == [SOUND, ask("Hi.", "Ho.")]
    done = {(entry["line"], entry["code"]) for entry in read(tmp_path / "new.jsonl.fixes.jsonl")}
    assert done == {(2, "empty-answer"), (3, "duplicate-rows"), (4, "no-answer")}


def test_what_is_not_understood_stays_as_it_is(tmp_path):
    rows = [{"frage": "2 + 2?", "antwort": "4"}, {"frage": "2 + 3?", "antwort": ""}, SOUND]
    report = fix(written(tmp_path / "rows.jsonl", rows), tmp_path / "new.jsonl")
    assert read(tmp_path / "new.jsonl") == rows
    assert not report.done


def test_gb18030_becomes_utf8_with_the_same_cells(tmp_path):
    text = "instruction,output\n首都是哪里,北京是中国的首都\n"
    before = written(tmp_path / "rows.csv", text.encode("gb18030"))
    with pytest.raises(EncodingError, match="which is a guess"):
        fix(before, tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists(), "a guess is never written"
    fix(before, tmp_path / "new.csv", encoding="gb18030")
    assert (tmp_path / "new.csv").read_text("utf-8") == text


def test_turns_under_another_name_are_cut_where_columns_names_them(tmp_path):
    turns = [{"role": "user", "content": "A?"}, {"role": "agent", "content": "B."}]
    row = {"turns": [*turns, {"role": "user", "content": "Thanks."}]}
    path = written(tmp_path / "rows.jsonl", [row])
    columns = {"messages": "turns", "assistant_role": "agent"}
    report = fix(path, tmp_path / "new.jsonl", columns=columns)
    assert report.done == {"ends-with-user": 1}
    turns[1]["role"] = "assistant"
    assert read(tmp_path / "new.jsonl") == [{"messages": turns}]  # nothing has to be said again


def test_a_json_array_can_be_written_as_lines_and_back(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([SOUND, SOUND]))
    fix(tmp_path / "rows.json", tmp_path / "new.jsonl")
    fix(tmp_path / "new.jsonl", tmp_path / "back.json")
    assert json.loads((tmp_path / "back.json").read_text()) == [SOUND]


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "taken.jsonl", "new.csv", "new.jsonl.gz", "free.jsonl"]
)
def test_nothing_is_overwritten(name, tmp_path):
    path = written(tmp_path / "rows.jsonl", [SOUND])
    (tmp_path / "taken.jsonl").write_text("mine")
    (tmp_path / "free.jsonl.fixes.jsonl").write_text("mine")
    with pytest.raises(FileAccessError):
        fix(path, tmp_path / name)
    assert (tmp_path / "taken.jsonl").read_text() == "mine"
    assert read(path) == [SOUND]


@pytest.mark.parametrize(
    ("rows", "error"),
    [(b'[{"text": "a"}, {"text": "b', MalformedFileError), ([pair("A?", "B", "B")], NoRowsError)],
    ids=["cut off", "nothing left"],
)
def test_a_file_that_cannot_be_fixed_leaves_nothing_behind(rows, error, tmp_path):
    path = written(tmp_path / "rows.jsonl", rows)
    with pytest.raises(error):
        fix(path, tmp_path / "new.jsonl")
    assert [found.name for found in tmp_path.iterdir()] == ["rows.jsonl"]


def test_the_page_offers_a_repaired_copy_for_what_is_repaired():
    """Every rule whose remedy is `luthier data fix`, or that it acts on without saying so."""
    page = CHECKOUT / "src" / "luthier" / "web" / "js" / "parts" / "report.js"
    listed = re.search(r"FIXED = new Set\(\[(.*?)\]\)", page.read_text("utf-8"), re.DOTALL)
    offered = set(re.findall(r'"([a-z0-9-]+)"', listed[1]))
    acted_on = {rule.code for rule in RULES if "luthier data fix" in rule.fix}
    assert offered == acted_on | {"encoding-not-utf8"}
    assert offered == FIXED | {"file-unreadable"}
