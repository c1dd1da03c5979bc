"""The command line as a person meets it, in processes of its own."""

import json
import os
import subprocess
import sys

import pytest

from luthier.cli import flags, main
from luthier.config.settings import Settings
from luthier.errors import SettingsError
from luthier.events import Step
from luthier.recipes.run import train as recipe

PROBE = """
import sys
from luthier.cli.main import main
try:
    main({words!r})
except SystemExit as end:
    print("heavy:", sorted({{"torch", "transformers", "rich"}} & set(sys.modules)), end.code or 0)
"""


def python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["runs", "--help"],
        ["runs", "list"],
        ["runs", "list", "--json"],
        ["gallery", "list"],
        ["train", "--lora_dmi", "3"],
    ],
    ids=" ".join,
)
def test_light_commands_never_load_torch(words):
    done = python(PROBE.format(words=words))
    assert "heavy: []" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def run(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    shown = capsys.readouterr()
    return caught.value.code or 0, shown.out, shown.err


def test_help_names_every_command(capsys):
    code, out, _ = run(["--help"], capsys)
    assert code == 0
    for name in main.COMMANDS:
        assert f"  {name} " in out


def test_help_of_train_has_every_setting_in_both_spellings(capsys):
    code, out, _ = run(["train", "--help-settings"], capsys)
    assert code == 0
    for name in Settings.model_fields:
        assert f"--{name} " in out
        assert f"--{name.replace('_', '-')} " in out
    assert max(map(len, out.splitlines())) <= 80
    code, shown, _ = run(["train", "--help"], capsys)
    assert code == 0
    assert "--learning_rate NUMBER" in shown
    assert "--adam_beta1" not in shown
    assert "--help-settings" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--lora_dmi", "8"], "lora_dmi is not a setting, did you mean lora_dim?"),
        (["train", "--learning_rate", "--seed", "1"], "is followed by --seed"),
        (["train", "absent.yaml"], "absent.yaml is not a file"),
        (["train", "--seed", "1", "--seed", "2"], "--seed is given 2 times"),
        (["train", "--model", "m"], "dataset is not given"),
        (["runs", "show", "nothing"], "'nothing' is not a run"),
        (["gallery", "show", "qwen3-8"], "luthier gallery show"),
    ],
)
def test_what_the_user_can_put_right_is_three_lines_and_code_2(words, message, capsys):
    code, out, err = run(words, capsys)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) <= 3


def test_a_word_too_many_is_code_2(capsys):
    code, _, err = run(["train", "a.yaml", "b.yaml"], capsys)
    assert code == 2
    assert "b.yaml" in err


def test_a_fault_of_ours_is_code_1_with_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr(main, "build", lambda asked: 1 / 0)
    code, _, err = run(["runs"], capsys)
    assert code == 1
    assert "Traceback" in err
    assert "fault of luthier" in err


def test_ctrl_c_outside_a_run_is_code_130(monkeypatch, capsys):
    def stopped(asked):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "build", stopped)
    assert run(["runs"], capsys)[0] == 130


def test_an_error_cannot_command_the_terminal(monkeypatch, capsys):
    def refuse(asked):
        raise SettingsError("row \x1b[2J\x07 is bad", fix="a\nb")

    monkeypatch.setattr(main, "build", refuse)
    code, _, err = run(["runs"], capsys)
    assert code == 2
    assert err == "error: row  is bad [E100]\n  fix: a\nb\n"


def test_json_of_an_empty_list_is_json(capsys):
    code, out, _ = run(["runs", "list", "--json"], capsys)
    assert code == 0
    assert json.loads(out) == []


def test_every_boolean_setting_has_its_own_form():
    words = [f"--no-{name.replace('_', '-')}" for name in flags.FLAGS]
    found = flags.normalise_settings(words, switches=frozenset())
    assert sorted(found) == sorted(f"--{name}=false" for name in flags.FLAGS)


def test_train_hands_settings_to_the_recipe_and_returns_its_status(tmp_path, monkeypatch, capsys):
    config = tmp_path / "run.yaml"
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "hi", "completion": "ho"}\n')
    config.write_text(f"model: starter\ndataset: {rows}\nlora_rank: 8\n")
    seen = []

    def stopped(resolved, *, on_event, wishes):
        seen.append(resolved)
        on_event(Step(step=3, loss=0.5))
        return recipe.RunResult(tmp_path / "run", "interrupted", 3, exit_code=143)

    monkeypatch.setattr(recipe, "run", stopped)
    words = ["train", str(config), "--load-in-4bit", "--lora-dim", "4", "--bf16"]
    code, out, err = run(words, capsys)
    assert code == 143, err
    assert "loss 0.5000" in out
    assert out.startswith("settings and rows are right")
    assert f"luthier train --resume true --output_dir {tmp_path / 'run'}" in out
    settings = seen[0].settings
    assert (settings.lora_dim, settings.method, settings.torch_dtype) == (4, "qlora", "bfloat16")
    assert seen[0].provenance["lora_dim"] == "--lora_dim"
