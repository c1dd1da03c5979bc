"""Server-sent events: one reader per run however many watch, and nobody waits for a slow client.

Batches are encoded once and put into a short queue of each watcher.  Who does not take them is
dropped; a browser connects again by itself and reads the figures it missed.  No `id:` is ever sent
and a keep-alive has no blank line: OpenAI's decoder would take the pair for an empty event.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from luthier.service.http.door.envelope import finite
from luthier.service.http.door.limits import Gate

LOG = logging.getLogger("luthier.service")
PERIOD_S = 0.5
KEEP_ALIVE_S = 15.0
QUEUE = 64
NAMELESS = "wire"
STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
Poll = Callable[[], list[tuple[str, object]]]
"""Reads what is new, in a thread: names and data of events; `("", ...)` ends the stream."""


def encode(name: str, data: object) -> bytes:
    """One event; its data is one line of JSON.  Those for OpenAI's clients have no name."""
    text = json.dumps(finite(data), ensure_ascii=True, separators=(",", ":"))
    named = "" if name == NAMELESS else f"event: {name}\n"
    return f"{named}data: {text}\n\n".encode()


class StreamClient:
    """The queue of one client."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE)
        self.dropped = False

    def put(self, batch: bytes | None) -> None:
        """Hand over a batch; a client that is too far behind gets no more."""
        try:
            self.batches.put_nowait(batch)
        except asyncio.QueueFull:
            self.dropped = True


class Feed:
    """What is new about one subject, for all who watch it.

    Args:
        snapshot: What a client that comes now has to know first.
        poll: What is new since the last call.
    """

    def __init__(self, snapshot: Poll, poll: Poll) -> None:
        self.snapshot, self.poll = snapshot, poll
        self.watchers: set[StreamClient] = set()


class Hub:
    """Polls every watched feed twice a second.

    Args:
        limit: Clients at once.
    """

    def __init__(self, limit: int) -> None:
        self.gate = Gate("event streams", limit)
        self._feeds: dict[str, Feed] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="luthier-feed")
        self._closed = False

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            for name, feed in list(self._feeds.items()):
                await self._turn(name, feed)

    async def _turn(self, name: str, feed: Feed) -> None:
        if not feed.watchers:
            self._feeds.pop(name, None)
            return
        news = await self.in_thread(feed.poll)
        batch = b"".join(encode(kind, data) for kind, data in news if kind)
        for watcher in list(feed.watchers):
            if batch:
                watcher.put(batch)
            if any(not kind for kind, _ in news):
                watcher.put(None)

    async def in_thread(self, poll: Poll) -> list[tuple[str, object]]:
        """The result of a poll; one that fails is told to the watchers and in the log."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, poll)
        except Exception as error:  # one broken run must not end everybody's stream
            LOG.exception("a feed could not be read")
            return [("notice", {"text": f"the run cannot be read: {type(error).__name__}"})]

    def close(self) -> None:
        """End every stream; safe from a signal handler."""
        self._closed = True
        for feed in self._feeds.values():
            for watcher in feed.watchers:
                watcher.put(None)
                watcher.dropped = watcher.dropped or watcher.batches.full()

    def stop(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def batches(self, name: str, make: Callable[[], Feed]) -> AsyncIterator[bytes | None]:
        """What one client gets; None when nothing happened for a while."""
        feed = self._feeds.get(name) or self._feeds.setdefault(name, make())
        watcher = StreamClient()
        feed.watchers.add(watcher)
        try:
            first = await self.in_thread(feed.snapshot)
            yield b"".join(encode(kind, data) for kind, data in first if kind)
            if any(not kind for kind, _ in first):
                return
            while not (self._closed or watcher.dropped):
                batch: bytes | None = b""
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        batch = await watcher.batches.get()
                if batch is None:
                    return
                yield batch or None
        finally:
            feed.watchers.discard(watcher)


class EventStream(Response):
    """The reply: events until they end, the client goes, or it takes nothing for too long.

    Args:
        batches: Encoded events; None asks for a sign of life.
        gate: Counts this stream; it has been entered.
        stalled_s: The longest one write may take.
        ending: Sent when the events end by themselves.
    """

    def __init__(
        self,
        batches: AsyncIterator[bytes | None],
        *,
        gate: Gate,
        stalled_s: float,
        ending: bytes = b"",
    ) -> None:
        super().__init__()
        self._batches, self._gate = batches, gate
        self._stalled_s, self._ending = stalled_s, ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until they end, the client leaves, or it takes too long."""
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            writing.cancel()
            results = await asyncio.gather(writing, leaving, return_exceptions=True)
            self._gate.leave()
        if isinstance(results[0], TimeoutError):
            _abort(scope)
        elif isinstance(results[0], Exception):
            raise results[0]

    async def _write(self, send: Send) -> None:
        headers = list(STREAM_HEADERS)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for batch in self._batches:
                await self._send(send, b":\n" if batch is None else batch)
            await self._send(send, self._ending, more=False)
        finally:
            close = getattr(self._batches, "aclose", None)
            if close is not None:
                await close()

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self._stalled_s):
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _abort(scope: Mapping[str, object]) -> None:
    """Cut the connection: closing it would wait for a client that does not read."""
    if callable(cut := scope.get("luthier.abort")):
        cut()
