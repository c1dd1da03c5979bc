"""The home: for its owner alone, from the start or from now on."""

import stat
from pathlib import Path

import pytest

from luthier.durable import make_folders
from luthier.runs import home, mend_home


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "share" / "luthier"))
    return tmp_path / "share" / "luthier"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_private_and_the_folders_above_it_are_as_ever(here: Path) -> None:
    make_folders(home() / "leases")
    assert mode(here) == 0o700
    assert mode(here.parent) != 0o700
    assert mend_home() is None


def test_an_older_home_is_closed_with_one_notice(here: Path) -> None:
    (here / "service").mkdir(parents=True)
    here.chmod(0o755)
    assert "other accounts could look into it" in (mend_home() or "")
    assert mode(here) == 0o700
    assert mend_home() is None


def test_a_folder_that_others_share_keeps_its_mode(here: Path, tmp_path: Path) -> None:
    for name in ("service", "holiday"):
        (here / name).mkdir(parents=True)
        (here / name).chmod(0o775)
    (here / "models").symlink_to(tmp_path)
    tmp_path.chmod(0o755)
    here.chmod(0o775)
    assert str(here / "service") in (mend_home() or "")
    assert [mode(here), mode(here / "holiday"), mode(tmp_path)] == [0o775, 0o775, 0o755]
    assert mode(here / "service") == 0o700


def test_no_home_is_no_reason_to_make_one(here: Path) -> None:
    assert mend_home() is None
    assert not here.exists()
