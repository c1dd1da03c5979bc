"""What every test may rely on: where the shared data is, and a home of its own."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("LUTHIER_NO_PROOF", "1")  # half a minute of imports; its own tests ask for it

# Fixtures wider than one test run before `luthier_home`: without this they would share the home, and
# its lease of the device, of the person and of every other process of the suite.
os.environ["LUTHIER_HOME"] = HOME = tempfile.mkdtemp(prefix="luthier-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

CHECKOUT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("LUTHIER_SHARED", CHECKOUT.parent / "shared" / "data"))
"""Real data sets, templates and tokenizers; read in place, never copied into the repository."""


@pytest.fixture(autouse=True)
def luthier_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees or writes the registry of the person who runs it."""
    home = tmp_path_factory.mktemp("luthier_home")
    monkeypatch.setenv("LUTHIER_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A path below the shared data; the test is skipped, with the reason, where it is absent."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            pytest.skip(f"{path} is absent; set LUTHIER_SHARED to the folder of shared data")
        return path

    return find
