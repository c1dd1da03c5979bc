"""Templates and tokenizers that never end, through every door that renders rows."""

import json
import shutil
import time

import psutil
import pytest
from tests.conftest import CHECKOUT

from luthier.cli.main import main
from luthier.data.types import Message
from luthier.errors import TemplateError
from luthier.recipes.after.rendering import open_rendering
from luthier.service.helper_processes import Helpers
from luthier.sources.source import resolve_source

STARTER = CHECKOUT / "src" / "luthier" / "starter"
OWN = json.loads((STARTER / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
TURNS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
BIG = "{{ ([1]|batch(10**9,'x')|list)|length }}"
BOMBS = {"turns": TURNS, "memory": BIG, "power": "{{ 1.5|round(10**9,'floor') }}"}
"""What a template does where a row says BOOM; its probe goes well."""

SHOWN = {"turns": "loop turns", "memory": "cuts into parts", "power": "rounds to 1000000000"}
DOORS = [("plan", bomb) for bomb in BOMBS]
DOORS += [(door, "turns") for door in ("train", "check", "show", "eval")]


def bombed(bomb):
    return "{% if 'BOOM' in messages[0].content %}" + BOMBS[bomb] + "{% endif %}" + OWN


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Two rows, the second of which sets a bomb off."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [
        [{"role": "user", "content": said}, {"role": "assistant", "content": "It is 7."}]
        for said in ("What is 3 + 4?", "BOOM")
    ]
    path.write_text("".join(json.dumps({"messages": line}) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The starter with each of the templates as its own."""
    made = {}
    for bomb in BOMBS:
        folder = tmp_path_factory.mktemp(bomb) / "model"
        shutil.copytree(STARTER, folder, ignore=shutil.ignore_patterns("data"))
        config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        config["chat_template"] = bombed(bomb)
        (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
        made[bomb] = folder
    return made


def said(capsys, *words):
    """What a command says on both streams, and how long it took."""
    began = time.monotonic()
    with pytest.raises(SystemExit):
        main(list(words))
    shown = capsys.readouterr()
    return shown.out + shown.err, time.monotonic() - began


def doors(rows, model, tmp_path):
    """Commands that render the rows."""
    named = ["--dataset", str(rows), "--model", str(model), "--eval_split", "0"]
    return {
        "train": ["train", *named, "--output_dir", str(tmp_path / "run")],
        "plan": ["plan", *named],
        "check": ["data", "check", str(rows), "--model", str(model)],
        "show": ["data", "show", str(rows), "--model", str(model), "--row", "2"],
        "eval": ["eval", str(model), "--dataset", str(rows)],
    }


@pytest.mark.parametrize(("door", "bomb"), DOORS)
def test_every_door_ends_with_a_sentence(door, bomb, rows, models, tmp_path, capsys):
    text, taken = said(capsys, *doors(rows, models[bomb], tmp_path)[door])
    assert SHOWN[bomb] in " ".join(text.split())
    assert "Traceback" not in text
    assert taken < 10


def test_a_helper_of_the_service_says_so_and_leaves_nothing(rows, models):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    helpers = Helpers()
    settings = {"model": str(models["turns"]), "dataset": [str(rows)]}
    with pytest.raises(Exception, match="loop turns"):
        helpers.call("preview", {"settings": settings, "first": 2, "count": 1})
    good = helpers.call("preview", {"settings": settings, "first": 1, "count": 1})
    assert good["rows"]
    helpers.close()
    after = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert after == []


def test_a_chat_goes_on_after_a_prompt_that_was_stopped(models):
    opened = open_rendering(resolve_source(str(models["turns"])))

    good = opened.renderer.prompt([Message("user", "What is 3 + 4?")]).tolist()
    for _ in range(5):
        with pytest.raises(TemplateError, match="loop turns"):
            opened.renderer.prompt([Message("user", "BOOM")])
    assert opened.renderer.prompt([Message("user", "What is 3 + 4?")]).tolist() == good
