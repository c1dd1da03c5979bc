"""uvicorn, as luthier runs it: a header may not take for ever, and an end is an end.

Source: uvicorn 0.54 `protocols/http/h11_impl.py`, whose keep-alive timer starts only after the
first reply.
"""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable, Iterator, MutableMapping
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from luthier.limits import HEADERS_BYTES, HEADERS_SECONDS

GRACE_S = 2
"""For answers that are being written when the server ends."""


class PatientProtocol(H11Protocol):
    """Closes a connection whose next request does not arrive whole in time."""

    header_s = HEADERS_SECONDS
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for the first request."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Stop waiting once the headers are complete; wait again for those of the next request."""
        super().data_received(data)
        if self.cycle is not None:
            scope = cast(MutableMapping[str, object], self.cycle.scope)
            scope["luthier.abort"] = self.transport.abort
        if self._at_work():
            self._rest()
        elif self._timer is None and data:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing."""
        self._rest()
        super().connection_lost(exc)

    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.header_s, self._give_up)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self._at_work() and not self.transport.is_closing():
            self.transport.abort()


class Server(uvicorn.Server):
    """A server that tells the application when it begins to close, before it waits for requests."""

    def __init__(self, config: uvicorn.Config, *, on_close: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_close = on_close
        self.ready: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self.ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them to `door.signals`: uvicorn would raise them again, and nothing would be closed."""
        yield

    def stop(self) -> None:
        """End event streams, answer the others 503, then stop; safe from a signal handler."""
        self._on_close()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close."""
        self._on_close()
        await super().shutdown(sockets)


def make_server(app: ASGIApp, *, on_close: Callable[[], None]) -> Server:
    """A server with limits on headers, idle connections and the time to close."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEADERS_BYTES,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        limit_concurrency=1500,
        backlog=512,
    )
    return Server(config, on_close=on_close)


def raise_file_limit() -> None:
    """As many open connections as this user may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.set_inheritable(False)
        yield listening
