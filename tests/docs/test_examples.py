"""What README and guides show: commands that exist, flags that exist, files that exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from luthier.cli import main
from luthier.config import read
from luthier.config.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
]
PAGES += sorted((CHECKOUT / "configs").rglob("README.md"))


def blocks(page: Path, language: str = "") -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [text for said, text in fenced if said == language]


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in blocks(page):
            lines = [re.split(r"\s+#", line)[0].strip() for line in block.splitlines()]
            found += [(page.name, line) for line in lines if line.startswith("luthier ")]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_in_the_docs_is_understood(page, line, monkeypatch):
    """Parsed by the real command line up to the point where work would begin."""
    asked, words = main._arguments(shlex.split(line)[1:])
    app = typer.main.get_command(main.build(asked))
    context = app.make_context("luthier", list(words), resilient_parsing=False)
    name, command, rest = app.resolve_command(context, [*context._protected_args, *context.args])
    inner = command.make_context(name, list(rest), parent=context)
    if asked == "train":
        given = {name: v for name, v in inner.params.items() if v and name in Settings.model_fields}
        flags = {name: v[0] if isinstance(v, list | tuple) else v for name, v in given.items()}
        config = inner.params.get("config")
        if config is not None and (CHECKOUT / config).exists():
            assert read.load(CHECKOUT / config, flags).settings.model


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)\)", page.read_text("utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_map_of_the_readme_names_what_is_there():
    text = (CHECKOUT / "README.md").read_text("utf-8")
    tree = next(
        block for block in blocks(CHECKOUT / "README.md") if block.startswith("src/luthier/")
    )
    named = set(re.findall(r"^  ([a-z]+)/", tree, re.M)) | set(
        re.findall(r"^([a-z]+)/", tree, re.M)
    )
    source = CHECKOUT / "src" / "luthier"
    packages = {path.parent.name for path in source.glob("*/__init__.py")} | {"starter"}
    assert packages - {"durable", "runs"} <= named, "a package the map leaves out"
    for name in named - {"src"}:
        assert (source / name).is_dir() or (CHECKOUT / name).is_dir(), name
    assert "make demo" in text
    assert "make test" in text


def test_python_in_the_docs_compiles():
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, page.name, "exec")
