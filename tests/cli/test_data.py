"""`luthier data`: a row as training gets it."""

import json
import shlex

import pytest
from tests.tiny import tiny_model_folder

from luthier.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model_folder(tmp_path_factory.mktemp("data"), seed=3))


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    bad = json.dumps({"messages": [{"role": "nobody", "content": "x"}]})
    path.write_text(json.dumps({"messages": turns}) + "\n" + bad + "\n")
    return str(path)


def run(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    shown = capsys.readouterr()
    return caught.value.code or 0, shown.out, shown.err


def test_the_learned_text_is_marked(rows, model, capsys):
    code, out, err = run(capsys, "data", "show", rows, "--model", model)
    assert (code, err) == (0, "")
    assert "«4" in out
    assert "2+2?«" not in out
    assert "<|im_start|>user" in out


def test_json_has_every_id_and_weight(rows, model, capsys):
    code, out, _ = run(capsys, "data", "show", rows, "--row=1", "--model", model, "--json")
    (pieces,) = json.loads(out)["sequences"]
    assert code == 0
    assert json.loads(out)["tokens"] == [sum(len(piece["ids"]) for piece in pieces)]
    assert {piece["weight"] for piece in pieces} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--row", "2"], "line 2 cannot be used"),
        (["--row", "9"], "no row on line 9"),
        (["--sed", "9"], "did you mean seed?"),
    ],
)
def test_a_row_that_is_not_there_is_named(rows, model, capsys, more, message):
    code, _, err = run(capsys, "data", "show", rows, "--model", model, *more)
    assert code == 2
    assert message in err


def test_settings_change_what_is_seen(rows, model, capsys):
    words = ["data", "show", rows, "--model", model, "--system-prompt", "Be brief.", "--train-on"]
    _, out, _ = run(capsys, *words, "all")
    assert "Be brief." in out


def test_every_format_has_an_example(capsys):
    code, out, _ = run(capsys, "data", "formats", "--json")
    assert code == 0
    assert all(one["example"] and one["meaning"] for one in json.loads(out))


def test_what_truncation_takes_is_marked(tmp_path, model, capsys):
    path = tmp_path / "long.jsonl"
    turns = [{"role": "user", "content": "why " * 40}, {"role": "assistant", "content": "so " * 20}]
    path.write_text(json.dumps({"messages": turns}) + "\n")
    words = ["data", "show", str(path), "--model", model, "--seq_length"]
    _, out, _ = run(capsys, *words, "128")
    assert "tokens of the prompt" in out
    assert out.count("⟦") == 1
    _, whole, _ = run(capsys, *words, "4000")
    assert "⟦" not in whole
    _, shown, _ = run(capsys, *words, "128", "--json")
    body = json.loads(shown)
    left = [piece for piece in body["sequences"][0] if not piece["cut"]]
    assert sum(len(piece["ids"]) for piece in left) == 128
    assert sum(len(piece["ids"]) for piece in left if piece["weight"]) == body["learned"][0]


def test_a_pair_shows_what_it_shares_and_a_page_escapes_it(tmp_path, model, capsys):
    path, page = tmp_path / "pairs.jsonl", tmp_path / "row.html"
    pair = {"prompt": "Why <b>?", "chosen": "Because.", "rejected": "<script>x</script>"}
    path.write_text(json.dumps(pair) + "\n")
    words = ["data", "show", str(path), "--model", model, "--objective", "dpo"]
    _, out, _ = run(capsys, *words)
    assert "(rejected), its first" in out
    code, out, _ = run(capsys, *words, "--html", str(page))
    text = page.read_text("utf-8")
    assert (code, out) == (0, f"written: {page}\n")
    assert "<script>" not in text
    assert "&lt;script&gt;x" in text
    assert 'class="shared' in text
    code, _, err = run(capsys, *words, "--html", str(page))
    assert code == 2
    assert "exists" in err


def test_estimate_says_whose_tokens_it_counts(rows, model, capsys):
    code, out, _ = run(capsys, "data", "estimate", rows, "--model", model)
    assert code == 0
    assert "1 rows, " in out
    assert "1 rows cannot be used" in out
    code, out, _ = run(capsys, "data", "estimate", rows, "--model", "gemma-2-2b-it")
    assert "and more where the two tokenizers differ" in out


def test_check_lists_what_is_wrong_and_exits_2(rows, model, capsys):
    code, out, err = run(capsys, "data", "check", rows, "--model", model)
    assert (code, err) == (2, "")
    assert "2 rows read = 1 used + 1 not usable, for sft" in out
    assert "error role-unknown" in out
    assert "line 2" in out


def test_check_as_json_is_the_report(rows, model, capsys):
    code, out, _ = run(capsys, "data", "check", rows, "--model", model, "--json")
    report = json.loads(out)
    assert code == 2
    assert report["rows"] == report["used"] + report["bad"]["count"] == 2
    assert {"512", "1024", "2048", "4096"} <= set(report["cuts"])
    assert [found["severity"] for found in report["findings"]] == sorted(
        (found["severity"] for found in report["findings"]), key=["error", "warning", "note"].index
    )


def test_check_finds_the_objective_by_itself(tmp_path, model, capsys):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "2+2?", "chosen": "It is 4.", "rejected": "It is 5."}\n')
    code, out, _ = run(capsys, "data", "check", str(path), "--model", model)
    assert code == 0
    assert "1 rows read = 1 used + 0 not usable, for dpo" in out
    code, out, _ = run(capsys, "data", "check", str(path), "--model", model, "--objective", "sft")
    assert code == 2
    assert "error objective-mismatch" in out


def test_fix_writes_a_new_file(rows, tmp_path, capsys):
    code, out, err = run(capsys, "data", "fix", rows, "--output", str(tmp_path / "new.jsonl"))
    assert (code, err) == (0, "")
    assert "2 of 2 rows" in out
    code, _, err = run(capsys, "data", "fix", rows, "--output", rows)
    assert code == 2
    assert "exists already" in err


def test_columns_to_paste_stay_on_a_line_of_their_own(tmp_path, model, capsys):
    path = tmp_path / "quiz.jsonl"
    row = {"question": "2+2?", "A": "3", "B": "4", "C": "5", "D": "6", "answer": "B"}
    path.write_text(json.dumps(row) + "\n")
    code, out, _ = run(capsys, "data", "check", str(path), "--model", model)
    assert code == 2
    (line,) = [line for line in out.splitlines() if "--columns" in line]
    words = shlex.split(line.strip().removeprefix("fix").strip())
    code, out, _ = run(capsys, "data", "check", str(path), "--model", model, *words)
    assert "no known format" not in out
