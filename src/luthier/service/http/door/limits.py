"""How much at once: a bucket of requests, and gates for what is heavy."""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from luthier import limits
from luthier.service.http.door.envelope import ApiError

MAX_CLIENTS = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server; bytes, seconds, and counts at once."""

    json_bytes: int = limits.BODY_BYTES
    upload_bytes: int = limits.UPLOAD_BYTES
    body_s: float = limits.BODY_SECONDS
    upload_pause_s: float = 60.0
    requests_per_s: float = limits.REQUESTS_A_SECOND
    request_burst: float = limits.REQUESTS_AT_ONCE
    logins_per_minute: float = limits.LOGINS_A_MINUTE
    streams: int = limits.STREAMS
    uploads: int = 4
    generations: int = limits.GENERATIONS
    helpers: int = limits.HELPERS
    stalled_client_s: float = 20.0


class Bucket:
    """Tokens per client that come back at a steady rate.

    Args:
        rate: Per second.
        burst: The most that can be saved up.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Take one token; 0, or the seconds until there is one again."""
        now = time.monotonic()
        left, then = self._clients.get(client, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1
        self._clients[client] = (left - allowed, now)
        self._clients.move_to_end(client)
        while len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rate


class Gate:
    """At most so many at once; one more is told to come back, not kept waiting."""

    def __init__(self, what: str, limit: int) -> None:
        self.what, self.limit, self.inside = what, limit, 0

    def enter(self) -> None:
        """Come in; `leave` has to follow.

        Raises:
            ApiError: 503 with `retry-after`: it is full.
        """
        if self.inside >= self.limit:
            raise ApiError(
                503,
                f"{self.inside} {self.what} at once",
                code="too_many_at_once",
                why=f"at most {self.limit} {self.what} are served at a time",
                fix="wait and try again",
                headers={"retry-after": "5"},
            )
        self.inside += 1

    def leave(self) -> None:
        """Go."""
        self.inside -= 1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be inside for the length of a block."""
        self.enter()
        try:
            yield
        finally:
            self.leave()
