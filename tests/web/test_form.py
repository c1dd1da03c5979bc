"""The form of a new job, filled from another job: nothing of what was asked for is lost."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

FORM = Path(__file__).parents[2] / "src" / "luthier" / "web" / "js" / "parts" / "form.js"


def again(given, **changes):
    """The settings that the form of a clone sends."""
    detail = {"given": given, "settings": {}, "job": {"base": "starter"}}
    return asked(f"settingsOf({{ ...fromJob({json.dumps(detail)}), ...{json.dumps(changes)} }})")


def asked(expression):
    """What an expression on the form is, in node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    names = "PLACED, fromAddress, fromJob, settingsOf, withSetting"
    code = (
        f"import {{ {names} }} from {json.dumps(FORM.as_uri())};"
        f"console.log(JSON.stringify({expression}));"
    )
    words = [node, "--no-warnings", "--input-type=module", "-e", code]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_a_clone_asks_for_the_same():
    given = {
        "model": "starter",
        "dataset": ["file-a", "file-b"],
        "eval_dataset": ["file-c", "file-d"],
        "method": "qlora",
        "objective": "sft",
        "load_in_8bit": True,
        "lora_dim": 4,
    }
    assert again(given) == given
    assert "load_in_8bit" not in again(given, method="lora")
    assert again({"dataset": "file-a", "load_in_4bit": True})["method"] == "qlora"


def test_8_and_4_bits_are_settings_of_the_form():
    assert not {"load_in_4bit", "load_in_8bit"} & set(asked("PLACED"))
    form = "withSetting(withSetting(fromAddress({}), 'load_in_4bit', true), 'load_in_8bit', true)"
    chosen = asked(f"settingsOf({form})")
    assert (chosen["method"], chosen["load_in_8bit"]) == ("qlora", True)
    assert "load_in_4bit" not in chosen
    assert "load_in_8bit" not in asked(f"settingsOf({{ ...{form}, method: 'lora' }})")
