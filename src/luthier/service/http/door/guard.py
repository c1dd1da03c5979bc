"""What stands before every route: pure ASGI, so that streams pass through it unbuffered.

In this order: request id, rate, number of headers, Host, framing, authentication (of every path that is not named in
`PUBLIC`, whatever the method), origin and CSRF, content type, size and form of the body.  A route
that is added later is closed until somebody opens it.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.limits import MOST_HEADERS, PUBLIC_BYTES
from luthier.service.http.door import strict
from luthier.service.http.door.bodies import Metered, Replayed, too_large, too_slow
from luthier.service.http.door.credentials import COOKIE, LONGEST_TOKEN, Credentials
from luthier.service.http.door.envelope import ApiError
from luthier.service.http.door.limits import Bucket, Limits

ACCESS = logging.getLogger("luthier.access")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PUBLIC = frozenset({"/healthz", "/login", "/api/login", "/api/session"})
"""Open to everybody: none tells more than that luthier is here."""

MANY_BYTES = 64 * 1024
"""Larger bodies are parsed in a thread, beside other requests."""

GUARDED = ("/v1", "/api", "/openapi.json")
UPLOADS = ("/v1/files", "/v1/uploads/")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass
class ServingState:
    """What changes while a server lives."""

    closing: bool = False


@dataclass
class _Request:
    """The parts of a request that decide."""

    scope: Scope
    headers: Mapping[str, str]
    repeated: frozenset[str]
    method: str = field(init=False)
    path: str = field(init=False)
    cookie: str = field(init=False)
    bearer: str = field(init=False)

    def __post_init__(self) -> None:
        self.method, self.path = self.scope["method"], self.scope["path"]
        self.cookie = _cookie(self.headers.get("cookie", ""))
        kind, _, value = self.headers.get("authorization", "").partition(" ")
        self.bearer = value.strip() if kind.lower() == "bearer" else ""

    @classmethod
    def of(cls, scope: Scope) -> "_Request":
        names = [name.decode("latin-1") for name, _ in scope["headers"]]
        values = [value.decode("latin-1") for _, value in scope["headers"]]
        repeated = frozenset(name for name, count in Counter(names).items() if count > 1)
        return cls(scope, dict(zip(names, values, strict=True)), repeated)


class Guard:
    """The middleware.

    Args:
        app: What is guarded.
        credentials: Who may come in.
        hosts: Allowed values of the Host header, with their port, in lower case; empty allows any
            name of this machine's loopback at any port.
        limits: Bounds of size, rate and time.
        state: Says when the server is closing.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        credentials: Credentials,
        hosts: Collection[str],
        limits: Limits,
        state: ServingState,
    ) -> None:
        self._app, self._credentials, self._limits, self._state = app, credentials, limits, state
        self._hosts = frozenset(hosts)
        self._requests = Bucket(limits.requests_per_s, limits.request_burst)
        self._logins = Bucket(limits.logins_per_minute / 60, limits.logins_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        answer = _Answer(send, scope)
        try:
            client = str((scope.get("client") or ("local",))[0])
            if wait_s := self._requests.wait_s(client):  # before anything whose cost has a size
                raise _too_many(wait_s)
            _check_number(scope)
            request = _Request.of(scope)
            self._check(request, client)
            body = await self._body(request, receive)
        except ApiError as error:
            await error.response()(scope, receive, answer)
            answer.log()
            return
        try:
            await self._app(scope, body, answer)
        finally:
            answer.log()

    def _check(self, request: _Request, client: str) -> None:
        """Everything that is known before the body."""
        self._check_host(request)
        _check_framing(request)
        if self._state.closing:
            raise ApiError(
                503,
                "the server is closing",
                code="closing",
                why="running jobs go on and are found again",
                headers={"retry-after": "3", "connection": "close"},
            )
        self._check_identity(request, client)
        _check_content_type(request)

    def _check_host(self, request: _Request) -> None:
        host = request.headers.get("host", "").lower()
        if "host" in request.repeated or not self._allowed(host):
            raise ApiError(
                403,
                f"Host {host[:100]!r} is not served here",
                code="host_not_allowed",
                why="a page of another site could reach this machine under a name of its own",
                fix="luthier serve --allow-host NAME",
            )

    def _allowed(self, host: str) -> bool:
        if self._hosts:
            return host in self._hosts
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return name in ("localhost", "127.0.0.1", "[::1]")

    def _check_identity(self, request: _Request, client: str) -> None:
        public = request.path in PUBLIC or not request.path.startswith(GUARDED)
        if request.path in ("/login", "/api/login") and (wait_s := self._logins.wait_s(client)):
            raise _too_many(wait_s)
        if request.bearer and self._credentials.is_token(request.bearer):
            request.scope["luthier.identity"] = "token"
            return
        _check_origin(request)
        known = bool(request.cookie) and self._credentials.is_session(request.cookie)
        if known and "cookie" not in request.repeated:
            request.scope["luthier.identity"] = "session"
            free = request.method in SAFE or request.path == "/api/login"
            given = request.headers.get("x-csrf-token", "")
            if not free and not self._credentials.is_csrf(given, request.cookie):
                raise ApiError(
                    403,
                    "x-csrf-token is missing or belongs to another session",
                    code="csrf",
                    why="a change with the cookie of the page must show that the page made it",
                    fix="GET /api/session has it, as csrf",
                )
        elif not public:
            raise ApiError(
                401,
                "the token is wrong" if request.bearer else "a token is needed",
                code="invalid_api_key",
                why="every route but the page itself needs Authorization: Bearer TOKEN",
                fix="luthier serve --show-token",
                headers={"www-authenticate": "Bearer"},
            )

    async def _body(self, request: _Request, receive: Receive) -> Receive:
        """The body, bounded; a JSON one is read and checked here, an upload passes through."""
        limit = self._limits.json_bytes
        if request.path in PUBLIC:
            limit = min(limit, PUBLIC_BYTES)
        if is_upload(request.method, request.path):
            limit = self._limits.upload_bytes
            _check_length(request, limit)
            return Metered(receive, limit, self._limits.upload_pause_s)
        _check_length(request, limit)
        if request.method in SAFE:
            return receive
        pieces, size = [], 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the request was cut off", code="cut_off")
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > limit:
                        raise too_large(limit)
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise too_slow() from error
        body = b"".join(pieces)
        if len(body) > MANY_BYTES:
            await asyncio.to_thread(strict.decode, body)
        elif body:
            strict.decode(body)
        return Replayed(body, receive)


def is_upload(method: str, path: str) -> bool:
    """Whether a request carries a file."""
    return method == "POST" and (
        path == UPLOADS[0] or (path.startswith(UPLOADS[1]) and path.endswith("/parts"))
    )


class _Answer:
    """Adds the headers of every reply, and remembers what the access log says."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send, self._scope = send, scope
        self._id = f"req_{secrets.token_hex(12)}"
        self._started = time.monotonic()
        self.status: int | None = None
        scope["luthier.request_id"] = self._id

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message["headers"]}
            more = {**HEADERS, "x-request-id": self._id}
            if self._scope["path"].startswith(GUARDED):
                more["cache-control"] = "no-store"
            encoded = ((name.encode(), value.encode()) for name, value in more.items())
            added = [(name, value) for name, value in encoded if name not in present]
            message = {**message, "headers": [*message["headers"], *added]}
        await self._send(message)

    def log(self) -> None:
        """One line, without the query, which may hold what is nobody's business."""
        if ACCESS.isEnabledFor(logging.INFO):
            path = self._scope["path"][:300].encode("unicode_escape").decode()
            took_ms = (time.monotonic() - self._started) * 1000
            ACCESS.info(
                "%s %s %s %.0f ms %s", self._scope["method"], path, self.status, took_ms, self._id
            )


def _check_number(scope: Scope) -> None:
    if (number := len(scope["headers"])) > MOST_HEADERS:
        raise ApiError(
            431,
            f"{number:,} headers",
            code="too_many_headers",
            why=f"a request has at most {MOST_HEADERS}",
            headers={"connection": "close"},
        )


def _cookie(header: str) -> str:
    with contextlib.suppress(CookieError):
        found = SimpleCookie(header[: 8 * LONGEST_TOKEN]).get(COOKIE)
        return found.value if found is not None else ""
    return ""


def _check_framing(request: _Request) -> None:
    """Two ways to say where a body ends are how a request hides in another."""
    both = "content-length" in request.headers and "transfer-encoding" in request.headers
    if both or request.repeated & {"content-length", "transfer-encoding", "authorization"}:
        raise ApiError(
            400,
            "the length of the body is said twice",
            code="bad_framing",
            headers={"connection": "close"},
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ApiError(
            415,
            f"content-encoding {request.headers['content-encoding'][:40]!r} is not read",
            code="unsupported_encoding",
            fix="send the body as it is",
        )


def _check_origin(request: _Request) -> None:
    """Refuse what another site's page makes a browser send."""
    if request.method in SAFE:
        return
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    host = request.headers.get("host", "").lower()
    same = origin is None or origin.lower() in (f"http://{host}", f"https://{host}")
    if not same or site not in (None, "same-origin", "none") or "origin" in request.repeated:
        raise ApiError(
            403,
            f"origin {(origin or site or '')[:100]!r} is another site",
            code="foreign_origin",
            why="only the page of this server, or a program with the token, may change something",
        )


def _check_content_type(request: _Request) -> None:
    if request.method in SAFE:
        return
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    if is_upload(request.method, request.path):
        if kind != "multipart/form-data" or "boundary=" not in given.lower():
            raise _wrong_type(kind, "multipart/form-data with a boundary")
        return
    length = request.headers.get("content-length", "0")
    if (length != "0" or "transfer-encoding" in request.headers) and kind != "application/json":
        raise _wrong_type(kind, "application/json")


def _check_length(request: _Request, limit: int) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or len(length) > 20:
        raise ApiError(400, f"content-length {length[:40]!r} is no number", code="bad_framing")
    if int(length) > limit:
        raise too_large(limit)


def _wrong_type(kind: str, needed: str) -> ApiError:
    return ApiError(
        415,
        f"content-type {kind[:80]!r} is not read here",
        code="unsupported_media_type",
        why=f"this route takes {needed}",
    )


def _too_many(wait_s: float) -> ApiError:
    return ApiError(
        429,
        "too many requests",
        code="rate_limit",
        fix=f"wait {wait_s:.1f} s",
        headers={"retry-after": str(max(1, round(wait_s)))},
    )
