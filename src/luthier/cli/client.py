"""A client of the service's HTTP API, with the standard library alone."""

import http.client
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from luthier.bounded import decode_ours
from luthier.errors import LuthierError, ServiceError, SettingsError

TIMEOUT_S = 60.0
CHUNK_BYTES = 1 << 20


class ServiceClient:
    """Talks to one server.

    Args:
        address: Such as `http://127.0.0.1:8080`; None for the server of this user's data folder.
        token: None for `LUTHIER_TOKEN`, or the one in the data folder.
    """

    def __init__(self, address: str | None = None, token: str | None = None) -> None:
        from luthier.runs import home

        folder = home()
        self.address = address or os.environ.get("LUTHIER_URL") or _address(folder)
        self._token = token or os.environ.get("LUTHIER_TOKEN") or _token(folder)
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(
                f"--url {self.address!r} is no address of a server",
                why="it begins with http:// or https://",
                fix="--url http://127.0.0.1:8080",
            )
        self._parts = parts

    def get(self, path: str) -> Any:
        """The answer to a GET."""
        return self._ask("GET", path)

    def post(self, path: str, body: Any = None) -> Any:
        """The answer to a POST."""
        return self._ask("POST", path, body)

    def delete(self, path: str) -> Any:
        """The answer to a DELETE."""
        return self._ask("DELETE", path)

    def upload(self, path: Path) -> dict[str, Any]:
        """Upload a file of training data."""
        mark = uuid.uuid4().hex
        name = path.name.replace('"', "_").replace("\n", "_")
        head = (
            f'--{mark}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        ).encode()
        tail = f"\r\n--{mark}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={mark}",
            "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
        }

        def pieces() -> Iterator[bytes]:
            yield head
            with path.open("rb") as stream:
                while piece := stream.read(CHUNK_BYTES):
                    yield piece
            yield tail

        answer: dict[str, Any] = self._read("POST", "/v1/files", pieces(), headers)
        return answer

    def follow(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events of a path, until they end."""
        connection = self._connect(timeout_s=None)
        try:
            answer = self._send(connection, "GET", path, None, {})
            if answer.status != 200:
                raise _error(answer.status, answer.read())
            name = "message"
            for line in answer:
                text = line.decode("utf-8", "replace").rstrip("\n")
                if text.startswith("event: "):
                    name = text[7:]
                elif text.startswith("data: "):
                    yield name, decode_ours(text[6:])
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        return self._read(method, path, data, {"Content-Type": "application/json"} if data else {})

    def _read(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        connection = self._connect(timeout_s=TIMEOUT_S)
        try:
            answer = self._send(connection, method, path, body, headers)
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise _error(answer.status, content)
        return decode_ours(content)

    def _connect(self, *, timeout_s: float | None) -> http.client.HTTPConnection:
        secure = self._parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        assert self._parts.hostname is not None
        return kind(self._parts.hostname, self._parts.port, timeout=timeout_s)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str],
    ) -> http.client.HTTPResponse:
        own = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        base = self._parts.path.rstrip("/")
        try:
            connection.request(method, base + path, body=body, headers={**own, **headers})
            return connection.getresponse()
        except OSError as error:
            raise ServiceError(
                f"no server answers at {self.address}: {error}",
                why="jobs are kept by a server",
                fix="luthier serve",
            ) from error


def path_of(*words: str) -> str:
    """An address below `/api` of names that may hold anything."""
    return "/api/" + "/".join(quote(word, safe="") for word in words)


def _error(status: int, content: bytes) -> LuthierError:
    try:
        body = decode_ours(content)["error"]
    except (ValueError, KeyError, TypeError):
        body = {"message": f"the server answered {status}"}
    return ServiceError(
        str(body.get("message")), why=body.get("why") or "", fix=body.get("fix") or ""
    )


def _address(folder: Path) -> str:
    path = folder / "service" / "address"
    text = path.read_text("utf-8").strip() if path.exists() else ""
    return text if text.startswith("http://") else "http://127.0.0.1:8080"


def _token(folder: Path) -> str:
    path = folder / "token"
    if not path.exists():
        raise ServiceError(
            f"there is no token in {folder}",
            why="the server makes one at its first start",
            fix="luthier serve, or export LUTHIER_TOKEN=... for a server elsewhere",
        )
    return path.read_text("ascii").strip()
