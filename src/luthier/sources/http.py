"""Asking a hub over HTTP: one request at a time, with timeouts, bounded answers and plain errors.

The token goes to the host that was asked for and to no other: a hub answers with redirects to the
stores where the bytes are.
"""

import contextlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from luthier.bounded import decode
from luthier.errors import HubError

MAX_ANSWER_BYTES = 64 * 2**20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CREDENTIALS = ("Authorization", "Cookie")


class BrokenOffError(Exception):
    """The connection failed, stalled, or ended early: worth another try."""


class StatusError(Exception):
    """The hub answered with another status than 2xx."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status)
        said = {name.lower(): value for name, value in headers.items()}
        self.status = status
        self.code = said.get("x-error-code", "")
        self.retry_after = said.get("retry-after", "")

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in (408, 429) or self.status >= 500


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects without taking credentials along, and never from https to http.

    Those to anything but http and https end in urllib as a status that is no answer.
    """

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (old.scheme, new.scheme) == ("https", "http"):
            raise HubError(
                f"{old.hostname} sends on to {newurl[:200]!r}",
                why="a redirect never leaves https",
                fix="use another mirror: luthier gallery pull NAME --mirror URL",
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (old.scheme, old.netloc) != (new.scheme, new.netloc):
            for name in _CREDENTIALS:
                request.headers.pop(name, None)
                request.unredirected_hdrs.pop(name, None)
        return request


class Client:
    """Requests to one endpoint.

    Args:
        endpoint: `https://host`, or `http://` for a mirror of one's own.
        token: Sent to the endpoint's own host, and only over https or to this machine.
        timeout_s: Longest silence, while connecting and between two pieces of an answer.

    Raises:
        HubError: The endpoint is no http(s) address.
    """

    def __init__(self, endpoint: str, *, token: str | None = None, timeout_s: float = 30.0) -> None:
        self.endpoint, self.timeout_s = endpoint.rstrip("/"), timeout_s
        parts = urllib.parse.urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise HubError(
                f"{endpoint[:200]!r} is no address of a hub",
                why="it is http:// or https:// with a host, without a user name",
                fix="--mirror https://HOST",
            )
        self.host = parts.hostname
        safe = parts.scheme == "https" or self.host in _LOOPBACK
        self._token = token if safe else None
        self._opener = urllib.request.build_opener(_Redirects())

    def json(self, path: str, **query: str) -> Any:
        """The JSON of an answer.

        Raises:
            StatusError: The hub says no.
            BrokenOffError: It cannot be reached, or stops talking.
            HubError: The answer is no JSON, or too large.
        """
        address = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        with self.open(address) as answer, _broken(self.timeout_s):
            raw = answer.read(MAX_ANSWER_BYTES + 1)
        try:
            if len(raw) > MAX_ANSWER_BYTES:
                raise ValueError(f"it is larger than {MAX_ANSWER_BYTES:,} bytes")
            return decode(raw)
        except ValueError as error:
            raise HubError(
                f"{self.host} answers with something that is not JSON",
                why=f"{self.endpoint}{path}: {str(error)[:120]}",
                fix="check the address of the mirror; it must speak the protocol of the hub",
            ) from error

    @contextlib.contextmanager
    def open(self, path: str, *, start: int = 0) -> Iterator[http.client.HTTPResponse]:
        """An answer to read from, from byte `start` on where the hub can do that (status 206).

        Raises:
            StatusError: The hub says no.
            BrokenOffError: It cannot be reached, or did not answer in time.
        """
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            raise HubError(
                f"{self.host} is not asked: HF_HUB_OFFLINE is set",
                why="it forbids every look at the hub",
                fix="unset HF_HUB_OFFLINE, or give a folder: luthier gallery add FOLDER",
            )
        headers = {"User-Agent": "luthier", "Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if start:
            headers["Range"] = f"bytes={start}-"
        request = urllib.request.Request(self.endpoint + path, headers=headers)
        try:
            with _broken(self.timeout_s):
                answer = self._opener.open(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                raise StatusError(error.code, dict(error.headers.items())) from None
        with answer:
            yield answer


@contextlib.contextmanager
def _broken(timeout_s: float) -> Iterator[None]:
    """What the many errors of a connection mean."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except TimeoutError as error:
        raise BrokenOffError(f"no byte for {timeout_s:g} s") from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise BrokenOffError(f"no byte for {timeout_s:g} s") from error
        raise BrokenOffError(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise BrokenOffError(str(error) or type(error).__name__) from error


def read_pieces(
    answer: http.client.HTTPResponse, *, piece_bytes: int, timeout_s: float
) -> Iterator[bytes]:
    """The body of an answer, piece by piece.

    Raises:
        BrokenOffError: It stalls or ends early.
    """
    while True:
        with _broken(timeout_s):
            piece = answer.read1(piece_bytes)
        if not piece:
            return
        yield piece
