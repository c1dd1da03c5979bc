"""Servers for the tests: in this process, and on a port with a real socket."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from luthier.service.http.app import Application
from luthier.service.http.door.limits import Limits
from luthier.service.http.door.server import bound, make_server
from luthier.service.http.serving import Options, assembled

TOKEN = "test-token-of-at-least-16"
STARTER = Path(__file__).parents[2] / "src" / "luthier" / "starter" / "data"
BASE = "http://127.0.0.1:8080"
HOSTS = frozenset({"127.0.0.1:8080"})
Start = Callable[..., Application]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Makes an application on a folder of its own; `limits` bound it."""
    with contextlib.ExitStack() as stack:

        def make(
            *, limits: Limits | None = None, hosts: frozenset[str] = HOSTS, home: Path | None = None
        ) -> Application:
            options = Options(limits=limits or Limits(), run_jobs=False)
            return stack.enter_context(
                assembled(home or tmp_path / "home", options=options, token=TOKEN, hosts=hosts)
            )

        yield make


@pytest.fixture
def app(start: Start) -> Application:
    """An application with ordinary limits and no runner: jobs stay queued."""
    return start()


def client_of(app: Application, *, token: str | None = TOKEN, **options: object) -> TestClient:
    """A client of an application in this process."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return TestClient(app, base_url=BASE, headers=headers, **options)


@pytest.fixture
def client(app: Application) -> Iterator[TestClient]:
    """A client with the token."""
    with client_of(app) as found:
        yield found


@pytest.fixture
def stranger(app: Application) -> Iterator[TestClient]:
    """A client without the token."""
    with client_of(app, token=None) as found:
        yield found


@contextlib.contextmanager
def on_a_port(
    home: Path, *, limits: Limits | None = None, run_jobs: bool = False
) -> Iterator[tuple[str, Application]]:
    """A server with a real socket in a thread: its address and application."""
    options = Options(limits=limits or Limits(), run_jobs=run_jobs)
    with bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        with assembled(home, options=options, token=TOKEN, hosts=hosts) as app:
            server = make_server(app, on_close=app.close)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
            thread.start()
            deadline = time.monotonic() + 20
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.01)
            assert server.started
            try:
                yield f"http://127.0.0.1:{port}", app
            finally:
                server.should_exit = True
                thread.join(20)
                assert not thread.is_alive()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Application]]:
    """A server with a real socket."""
    with on_a_port(tmp_path / "home") as found:
        yield found
