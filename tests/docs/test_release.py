"""Version, changelog and release recipe say the same; the documents name what is there."""

import re
import tomllib

import yaml
from tests.conftest import CHECKOUT

import luthier

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))
CHANGELOG = (CHECKOUT / "CHANGELOG.md").read_text("utf-8")
CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text("utf-8")


def test_the_newest_release_of_the_changelog_is_the_version():
    released = re.findall(r"^## (\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$", CHANGELOG, re.MULTILINE)
    version = PROJECT["project"]["version"]
    assert re.search(r"^## Unreleased$", CHANGELOG, re.MULTILINE)
    assert released[:1] == [version] or (not released and version == "0.1.0")


def test_the_package_says_its_version():
    assert luthier.__version__ == PROJECT["project"]["version"]


def test_every_command_of_the_release_recipe_exists():
    makefile = (CHECKOUT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make (\w+)`", CONTRIBUTING):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_that_contributing_names_is_there():
    for name in re.findall(r"`((?:src|tests|docs|examples|configs)/[\w/.]+)`", CONTRIBUTING):
        assert (CHECKOUT / name).exists() or "NAME" in name or "CODE" in name, name


def test_the_forms_and_the_workflow_are_read_by_yaml():
    forms = sorted((CHECKOUT / ".github").rglob("*.yml"))
    assert len(forms) >= 4
    read = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in forms}
    assert read["ci.yml"]["jobs"]["test"]["steps"][-1] == {"run": "bash .ci/run"}


def test_the_floors_that_the_documents_draw_are_those_of_the_contract():
    page = (CHECKOUT / "docs" / "how-it-works.md").read_text("utf-8")
    drawn = page.split("## Floors")[1].split("```")[1]
    shown = [
        sorted(re.split(r"   ", line)[0].replace("|", " ").split())
        for line in drawn.strip().splitlines()
    ]
    contract = PROJECT["tool"]["importlinter"]["contracts"][0]
    layers = [
        sorted(name.strip().removeprefix("luthier.") for name in layer.split("|"))
        for layer in contract["layers"]
    ]
    assert shown == layers
