"""A hub on this machine: both protocols over real HTTP, and every way in which a hub misbehaves."""

import hashlib
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c0ffee" * 6 + "beef"


@dataclass
class Behaviour:
    """What goes wrong.  Counts go down with every use; -1 is for ever."""

    status: int = 0  # answer every request with it ...
    status_times: int = -1  # ... so many times
    code: str = ""  # X-Error-Code beside the status
    gate_files: bool = False  # the list is given, files ask for a token
    token: str = ""  # what Authorization must carry then
    stall_s: float = 0.0  # silence before an answer
    cut_after: int = -1  # end a file after so many bytes ...
    cut_times: int = -1  # ... so many times
    flip: str = ""  # change a byte of this file
    longer: str = ""  # send more of this file than announced
    ranges: bool = True  # whether Range is understood
    redirect: str = ""  # send files on to this endpoint
    extra: list[dict[str, object]] = field(default_factory=list)  # further entries of the list
    without_checksums: bool = False


@dataclass
class Hub:
    """The server's address, what it serves, what goes wrong, and what it was asked."""

    endpoint: str
    folders: dict[str, Path]
    behaviour: Behaviour
    requests: list[tuple[str, dict[str, str]]]

    def files_asked(self) -> list[str]:
        return [path.rsplit("/", 1)[-1] for path, _ in self.requests if "/resolve/" in path]


@contextmanager
def serving(**folders: Path) -> Iterator[Hub]:
    """Serve folders as models; `org__name` is org/name."""
    hub = Hub(
        "", {name.replace("__", "/"): path for name, path in folders.items()}, Behaviour(), []
    )

    class Handler(_Handler):
        told = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    told: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        return

    def do_GET(self) -> None:
        hub, ways = self.told, self.told.behaviour
        parts = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(parts.path)
        hub.requests.append((path, {name.lower(): value for name, value in self.headers.items()}))
        if ways.stall_s:
            time.sleep(ways.stall_s)
        if ways.status and ways.status_times:
            ways.status_times -= 1
            return self._refuse(ways.status, ways.code)
        if path.startswith("/api/models/"):
            return self._list_hub(path.removeprefix("/api/models/"))
        if path.startswith("/api/v1/models/"):
            return self._list_modelscope(path.removeprefix("/api/v1/models/"))
        if "/resolve/" in path:
            return self._file(path)
        return self._refuse(404, "RepoNotFound")

    def _list_hub(self, path: str) -> None:
        name, _, revision = path.partition("/revision/")
        folder = self.told.folders.get(name)
        if folder is None:
            return self._refuse(401, "RepoNotFound")
        if revision not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        siblings = [self._sibling(file) for file in sorted(folder.rglob("*")) if file.is_file()]
        body = {"id": name, "sha": COMMIT, "siblings": [*siblings, *self.told.behaviour.extra]}
        return self._json(body)

    def _sibling(self, file: Path) -> dict[str, object]:
        folder = next(one for one in self.told.folders.values() if file.is_relative_to(one))
        content, name = file.read_bytes(), file.relative_to(folder).as_posix()
        if self.told.behaviour.without_checksums:
            return {"rfilename": name}
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
        if name.endswith(".safetensors"):
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 133}
        return entry

    def _list_modelscope(self, path: str) -> None:
        folder = self.told.folders.get(path.removesuffix("/repo/files"))
        if folder is None:
            return self._refuse(404, "")
        files = [
            {
                "Path": file.relative_to(folder).as_posix(),
                "Type": "blob",
                "Size": file.stat().st_size,
                "Sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            }
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        ]
        return self._json({"Code": 200, "Data": {"Files": files}})

    def _file(self, path: str) -> None:
        ways = self.told.behaviour
        owner, _, rest = path.removeprefix("/models").lstrip("/").partition("/resolve/")
        file = self.told.folders[owner] / rest.split("/", 1)[1]
        if ways.gate_files and self.headers.get("Authorization") != f"Bearer {ways.token}":
            return self._refuse(401, "GatedRepo")
        if ways.redirect:
            self.send_response(302)
            self.send_header("Location", f"{ways.redirect}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        content = file.read_bytes()
        if ways.flip == file.name:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if ways.longer == file.name:
            content += b"more"
        return self._send(content)

    def _send(self, content: bytes) -> None:
        ways, start = self.told.behaviour, 0
        asked = self.headers.get("Range", "")
        if ways.ranges and asked:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if 0 <= ways.cut_after < len(body) and ways.cut_times:
            ways.cut_times -= 1
            body = body[: ways.cut_after]
            self.close_connection = True
        self.wfile.write(body)

    def _json(self, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
