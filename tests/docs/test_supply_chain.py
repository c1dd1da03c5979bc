"""What a release is made of: pinned, named with its licence, and nothing that is not."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bom():
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "docs" / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.bom()


def pins():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", text)[0]).lower() for text in texts}
    assert names - set(pins()) - {"luthier", "torch"} == set()  # torch: the Makefile pins its build
    assert re.search(r"TORCH\s*\?= torch==\d", (ROOT / "Makefile").read_text("utf-8"))


def test_the_bill_of_materials_names_every_part_with_version_and_licence(bom):
    parts = {part["bom-ref"]: part for part in bom["components"]}
    assert len(parts) == len(bom["components"])
    packages = {part["name"]: part for part in parts.values() if part["type"] == "library"}
    assert {"torch", "transformers", "safetensors", "jinja2", "pydantic"} <= set(packages)
    assert {"pytest", "trl", "peft", "playwright"} & set(packages) == set()  # for developers only
    unlicensed = {name for name, part in packages.items() if not part.get("licenses")}
    assert unlicensed == set()
    scripts = [part for part in parts.values() if part["type"] == "file"]
    listed = json.loads((ROOT / "src/luthier/web/vendor/hashes.json").read_text("utf-8"))
    assert {script["hashes"][0]["content"] for script in scripts} == {e["sha256"] for e in listed}
    refs = {line["ref"] for line in bom["dependencies"]}
    named = {ref for line in bom["dependencies"] for ref in line["dependsOn"]}
    assert named <= set(parts)
    assert refs <= {*parts, bom["metadata"]["component"]["bom-ref"]}
    assert {part["bom-ref"] for part in packages.values()} <= named  # nothing without a reason


def test_what_is_installed_is_what_is_pinned(bom):
    wanted = pins()
    packages = [part for part in bom["components"] if part["type"] == "library"]
    differ = {
        part["name"]: part["version"]
        for part in packages
        if part["name"] in wanted and part["version"].split("+")[0] != wanted[part["name"]]
    }
    assert differ == {}
