"""The page's files: whole, of known origin, free of what a strict content policy forbids, small.

Whether the content policy of the server lets them run is seen in a browser, in test_pages.py.
"""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "src" / "luthier" / "web"
ASSETS = Path(__file__).parent / "vendor"
OURS = sorted(
    path
    for path in WEB.rglob("*")
    if path.suffix in {".js", ".css", ".html"} and "vendor" not in path.parts
)
SCRIPTS = [path for path in OURS if path.suffix == ".js"]
FIRST_PAGE_BYTES = 150_000


def name_of(path):
    return path.relative_to(WEB).as_posix()


def entries(folder):
    return [(folder, entry) for entry in json.loads((folder / "hashes.json").read_text("utf-8"))]


@pytest.mark.parametrize(("folder", "entry"), [*entries(WEB / "vendor"), *entries(ASSETS)])
def test_a_vendored_file_is_the_published_one(folder, entry):
    content = (folder / entry["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert "copyright" in (folder / entry["licence_file"]).read_text("utf-8").lower()
    if changed := entry.get("changed"):
        published = content.replace(changed["to"].encode(), changed["from"].encode())
        assert hashlib.sha256(published).hexdigest() == entry["published_sha256"]


def test_nothing_is_vendored_without_a_record():
    known = {entry["file"] for _, entry in entries(WEB / "vendor")}
    there = {path.name for path in (WEB / "vendor").iterdir() if path.is_file()}
    assert there == known | {"hashes.json"}


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_a_file_keeps_to_the_content_policy(path):
    text = path.read_text("utf-8")
    forbidden = {
        "evaluated text": r"\beval\(|new Function\(|setTimeout\(['\"`]",
        "markup from text": r"innerHTML|outerHTML|insertAdjacentHTML|document\.write",
        "a style attribute": r"\bstyle=[\"']|style=\$\{[`'\"]",
        "a handler in markup": r"<[^>]*\son[a-z]+=[\"']",
        "another host": r"https?://(?!www\.w3\.org/)|[\"'(]//[a-z]",
        "an inline script or style": r"<script(?![^>]*\bsrc=)|<style",
    }
    found = [what for what, pattern in forbidden.items() if re.search(pattern, text)]
    assert found == []


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_a_file_of_the_page_can_be_read_in_one_sitting(path):
    assert len(path.read_text("utf-8").splitlines()) <= 400


def imports(path, pattern):
    return [
        (path.parent / found).resolve() for found in re.findall(pattern, path.read_text("utf-8"))
    ]


STATIC = r"(?:from|import) [\"'](\.[^\"']+)[\"']"


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_every_import_is_there_and_every_name_is_used(path):
    text = path.read_text("utf-8")
    for names, source in re.findall(r"import \{([^}]*)\} from [\"']([^\"']+)[\"']", text):
        target = (path.parent / source).resolve()
        assert target.is_file(), source
        exported = target.read_text("utf-8")
        for name in (name.strip() for name in names.split(",") if name.strip()):
            if "vendor" not in source:
                kind = r"export (?:async )?(?:const|function\*?|class)"
                listed = rf"export \{{[^}}]*\b{name}\b"
                assert re.search(rf"{kind} {name}\b|{listed}", exported), f"{name} of {source}"
            assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} of {source} is not used"
    for source in re.findall(r"import\([\"'](\.[^\"']+)[\"']\)", text):
        assert (path.parent / source).is_file(), source


def test_the_first_page_is_small():
    page = WEB / "index.html"
    wanted = {page, WEB / "lang" / "en.json", WEB / "js" / "views" / "home.js"}
    wanted |= {
        WEB / found for found in re.findall(r"(?:href|src)=\"([^\"]+)\"", page.read_text("utf-8"))
    }
    while True:
        scripts = [path for path in wanted if path.suffix == ".js"]
        more = {one for path in scripts for one in imports(path, STATIC)} - wanted
        if not more:
            break
        wanted |= more
    packed = sum(len(gzip.compress(path.read_bytes())) for path in wanted)
    assert len(wanted) > 10
    assert packed < FIRST_PAGE_BYTES
    assert WEB / "vendor" / "uplot.js" not in wanted
