"""The reference pages are generated, and current."""

import runpy
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_the_reference_is_current():
    script = CHECKOUT / "docs" / "generate.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr + "make docs writes them"


def test_every_setting_and_code_has_its_line():
    pages = runpy.run_path(str(CHECKOUT / "docs" / "generate.py"))
    from luthier.config.settings import Settings

    text = pages["settings_page"]()
    assert all(f"| `{name}` |" in text for name in Settings.model_fields)
    assert "| E301 | OutOfMemoryError |" in pages["errors_page"]()
    assert "luthier runs follow" in pages["commands_page"]()
