"""Every ready recipe is read and validated as `luthier train` would, and is in the table."""

import pytest
from tests.conftest import CHECKOUT

from luthier.config import read
from luthier.gallery import find_model

CONFIGS = CHECKOUT / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
READY = sorted(CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_recipe_is_valid(path):
    resolved = read.load(path)
    assert resolved.settings.dataset


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_a_recipe_says_what_its_name_says(path):
    settings = read.load(path).settings
    model = find_model(settings.model)
    assert model is not None, f"{settings.model} is not in the gallery"
    method = path.stem.rsplit("-", 1)[1]
    assert settings.method == method
    assert settings.load_in_4bit == (method == "qlora")
    assert f"-{settings.objective}-" in path.stem or "guanaco" in path.stem


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_only_the_tutorial_uses_names_of_other_tools(path):
    assert bool(read.load(path).notices) == ("guanaco" in path.stem)


def test_the_table_names_every_recipe():
    table = (CONFIGS / "README.md").read_text("utf-8")
    assert [path.name for path in READY if f"({path.name})" not in table] == []
