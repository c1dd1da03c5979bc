"""Every command that the product prints is one that its command line takes."""

import ast
import re
from pathlib import Path

import pytest
import typer
from tests.commands import application, understood

from luthier.cli.drawing import next_steps
from luthier.cli.examples import EXAMPLES
from luthier.errors import LuthierError
from luthier.service.http.page.commands import commands

SOURCE = Path(__file__).resolve().parents[2] / "src" / "luthier"
NAMES = "demo|advise|plan|train|chat|compare|eval|export|data|gallery|runs|serve|jobs|doctor"
COMMAND = re.compile(rf"(?<![\w/.])luthier (?:{NAMES})\b[^;\n`\")]*")
STAND_IN = "1"
"""In place of what is put in when the program runs."""


def texts(tree):
    """Strings of a module as they are printed, but not its docstrings."""
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    docs = {
        id(node.value) for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in inside | docs:
                yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else STAND_IN for part in node.values
            )


def printed():
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for text in texts(ast.parse(path.read_text("utf-8"))):
            for line in COMMAND.findall(text):
                line = re.sub(r"\bN\b", STAND_IN, re.split(r",\s", line)[0]).strip()
                found.setdefault(line, path.relative_to(SOURCE))
    return found


def parses(line):
    """Whether a beginning of the line that has all its flags is a command; the rest is prose."""
    words = line.split(" ")
    flags = [place for place, word in enumerate(words) if word.startswith("--")]
    least = flags[-1] if flags else 1
    said = ""
    for end in range(least + 1, len(words) + 1):  # the shortest is mostly it
        try:
            understood(" ".join(words[:end]))
        except typer.Exit:  # --help
            return ""
        except (LuthierError, ValueError) as error:
            said = str(error)
        except Exception as error:  # noqa: BLE001  what click says of a command
            said = getattr(error, "message", str(error))
        else:
            return ""
    return said or "too short"


def test_every_command_in_a_sentence_of_the_program_is_understood():
    found = printed()
    assert len(found) > 60
    wrong = {line: f"{path}: {said}" for line, path in found.items() if (said := parses(line))}
    assert wrong == {}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_examples_under_a_help_are_understood(name):
    for example in EXAMPLES[name]:
        assert example.startswith(f"luthier {name}")
        understood(example)


def test_every_command_shows_its_examples_and_whole_sentences(capsys):
    for asked in NAMES.split("|"):
        app = application(asked)
        command = app.commands[asked]
        below = getattr(command, "commands", {"": command})
        for name, one in below.items():
            assert EXAMPLES[f"{asked} {name}".strip()][0] in (one.epilog or ""), (asked, name)
            assert one.short_help.endswith(".")
    context = application("train").make_context("luthier", [], resilient_parsing=True)
    shown = context.get_help()
    assert "..." not in shown.partition("Commands:")[2]
    assert max(map(len, shown.splitlines())) <= 100


def test_the_commands_of_the_page_name_what_this_machine_knows():
    asked = {"model": "starter", "dataset": ["file-a"], "columns": {"prompt": "{q}\nA. {A}, or"}}
    here = {**asked, "dataset": ["/srv/rows a.jsonl", "/srv/b.jsonl"]}
    made = commands(asked, base_url="http://127.0.0.1:8080", here=here)
    understood(made["cli"])
    for name in ("cli", "yaml", "python"):
        assert "file-a" not in made[name], name
        assert "/srv/rows a.jsonl" in made[name]
    for name in ("openai", "curl"):
        assert "file-a" in made[name]
        assert "/srv" not in made[name]


def test_next_steps_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "a run"
    shown = [
        *next_steps.after_training(run, reason="completed", step=3),
        *next_steps.after_training(run, reason="interrupted", step=3),
        *next_steps.after_fix("rows-fixed.jsonl", model="starter"),
        *next_steps.after_advice(tmp_path / "run.yaml"),
    ]
    assert [command for command, _ in shown if "'runs/a run'" in command]
    for command, _ in shown:
        understood(command)
    assert next_steps.after_training(run, reason="interrupted", step=0) == []
