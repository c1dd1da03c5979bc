"""A browser, and the real server for it to look at."""

import json
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

TOKEN = "a-token-for-tests-that-is-long-enough-0123456789"
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


class Visit:
    """A reader with a language and a theme.  What left the machine or went wrong is kept."""

    def __init__(
        self,
        browser: Any,
        address: str,
        *,
        language: str = "en",
        theme: str = "light",
        width: int = 1280,
    ) -> None:
        size = {"width": width, "height": 860}
        self.context = browser.new_context(
            viewport=size, locale=language, reduced_motion="reduce", base_url=address
        )
        chosen = {"luthier.theme": theme, "luthier.language": language}
        self.context.add_init_script(
            f"for (const [name, value] of Object.entries({json.dumps(chosen)}))"
            " localStorage.getItem(name) ?? localStorage.setItem(name, value)"
        )
        self.outside: list[str] = []
        self.problems: list[str] = []
        self.context.route("**/*", self._only_here)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._hear)
        self.address, self.visits = address, 0

    def _only_here(self, route: Any) -> None:
        if route.request.url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def _hear(self, message: Any) -> None:
        if message.type == "error" and "status of 4" not in message.text:
            self.problems.append(f"{message.text} {message.location.get('url', '')}")

    def login(self) -> "Visit":
        """As a person does: the token, once."""
        answer = self.context.request.post("/api/login", data={"token": TOKEN})
        assert answer.ok, answer.text()
        return self

    def go(self, place: str) -> Any:
        """Open a view by its address, as a bookmark does, and wait until it is drawn."""
        self.visits += 1
        self.page.goto(f"{self.address}/?{self.visits}#/{place}")
        return self.drawn()

    def turn(self, place: str) -> Any:
        """Go to a view without loading the page again, as a link does."""
        self.page.evaluate("place => { location.hash = '#/' + place }", place)
        return self.drawn()

    def drawn(self) -> Any:
        """Wait until what is asked for is there."""
        self.page.wait_for_selector("h1")
        self.page.locator(".loading").first.wait_for(state="detached")
        return self.page

    def close(self) -> None:
        """Nothing may have gone wrong, and nothing may have asked another machine."""
        self.context.close()
        assert self.outside == []
        assert self.problems == []


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
