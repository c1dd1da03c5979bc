"""The same contract with the 1.109 client, which lives in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
OLDER = CHECKOUT / ".venv" / "openai-1.109"
HERE = Path(__file__).parent


@pytest.mark.parametrize("file", ["test_openai.py", "test_training.py"])
def test_the_older_client_says_the_same(file):
    if not (OLDER / "openai").is_dir():
        pytest.skip(f"{OLDER} is absent; the Makefile installs it before make test")
    paths = [str(OLDER), str(CHECKOUT / "src"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / file)],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
