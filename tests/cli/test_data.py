"""`luthier data`: a row as training gets it."""

import json

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
