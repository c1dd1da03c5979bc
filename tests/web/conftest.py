"""A browser, and the real server for it to look at."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.web.browsing import TOKEN, Visit

CHROMIUM = os.environ.get("LUTHIER_CHROMIUM") or shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of `luthier serve` with a home of its own, and nothing in it."""
    pytest.importorskip("fastapi", reason="the page is served by the [serve] extra")
    home = tmp_path_factory.mktemp("served")
    environment = {**os.environ, "LUTHIER_HOME": str(home), "LUTHIER_TOKEN": TOKEN}
    environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "luthier.cli.main", "serve", "--port", "0", "--no-browser"]
    with (
        (home / "serve.log").open("w+") as log,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        lines = (re.search(r"http://[\d.]+:\d+", line) for line in process.stdout)
        address = next((found[0] for found in lines if found), None)
        log.seek(0)
        assert address, log.read()
        yield address
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the PATH; set LUTHIER_CHROMIUM to one")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, server: str) -> Iterator[Any]:
    """Makes readers who are logged in; at the end each is asked what went wrong."""
    readers: list[Visit] = []

    def enter(**how: Any) -> Visit:
        readers.append(Visit(chromium, server, **how).login())
        return readers[-1]

    yield enter
    for reader in readers:
        reader.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker, as a script."""
    return (Path(__file__).parent / "vendor" / "axe.min.js").read_text("utf-8")


@pytest.fixture(scope="session")
def picture() -> Any:
    """Keeps a picture for the documentation where LUTHIER_SCREENSHOTS asks for it."""
    folder = Path(__file__).parents[2] / "docs" / "screenshots"

    def keep(page: Any, name: str) -> None:
        if os.environ.get("LUTHIER_SCREENSHOTS"):
            folder.mkdir(exist_ok=True)
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(7000)  # words that appear for a moment are gone then
            page.screenshot(path=folder / f"{name}.png")

    return keep
