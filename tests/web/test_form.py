"""The form of a new job, filled from another job: nothing of what was asked for is lost."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

FORM = Path(__file__).parents[2] / "src" / "luthier" / "web" / "js" / "parts" / "form.js"


def again(given, **changes):
    """The settings that the form of a clone sends."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    detail = {"given": given, "settings": {}, "job": {"base": "starter"}}
    code = (
        f"import {{ fromJob, settingsOf }} from {json.dumps(FORM.as_uri())};"
        f"const form = {{ ...fromJob({json.dumps(detail)}), ...{json.dumps(changes)} }};"
        "console.log(JSON.stringify(settingsOf(form)));"
    )
    asked = [node, "--no-warnings", "--input-type=module", "-e", code]
    return json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


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
