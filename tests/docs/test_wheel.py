"""The wheel holds every file that the package needs, and works without the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.conftest import CHECKOUT

SOURCE = CHECKOUT / "src" / "luthier"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    words = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(CHECKOUT)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    return next(folder.glob("luthier-*.whl"))


def test_every_file_of_the_package_is_in_the_wheel(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sorted(ours - inside) == []


def test_the_installed_wheel_knows_its_models_and_its_page(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import luthier; from luthier.gallery import all_models\n"
        "from luthier.sources.source import resolve_source\n"
        "from luthier.service.http.door.static import Page\n"
        "from luthier.advisor.speech import catalogue\n"
        "print(luthier.__file__, len(all_models()), resolve_source('starter').base.name)\n"
        "assert catalogue('vi') and Page\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    where, models, base = done.stdout.split()
    assert Path(where).is_relative_to(tmp_path)
    assert int(models) > 20
    assert base == "starter"
