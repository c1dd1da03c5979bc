"""The page: files of the package, read once, compressed once, told apart by their content.

Nothing else is served: a name is looked up in a table made at the start, never on the disk.
"""

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from luthier.service.http.door.envelope import ApiError

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
PACKED = frozenset({".html", ".js", ".css", ".json", ".svg", ".txt", ".webmanifest"})
FRESH = "no-cache"  # kept, and asked about each time: a reply of 304 has no body


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    packed: bytes | None
    kind: str
    tag: str


class Page:
    """Serves the page and its files; any other path without a dot leads to a view of the page.

    Args:
        folder: What is served; the package's own page where none is given.
    """

    def __init__(self, folder: Traversable | None = None) -> None:
        self._files: dict[str, _File] = {}
        root = folder or files("luthier") / "web"
        if root.is_dir():
            self._collect(root, "/")

    def _collect(self, folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.name.startswith((".", "_")):
                continue
            if entry.is_dir():
                self._collect(entry, f"{prefix}{entry.name}/")
                continue
            ending = "." + entry.name.rpartition(".")[2]
            if ending in KINDS:
                content = entry.read_bytes()
                packed = gzip.compress(content, 9, mtime=0) if ending in PACKED else None
                tag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
                self._files[f"{prefix}{entry.name}"] = _File(content, packed, KINDS[ending], tag)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD."""
        await self._response(scope)(scope, receive, send)

    def _response(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return ApiError(
                405,
                f"{scope['method']} is not possible here",
                code="method_not_allowed",
                headers={"allow": "GET, HEAD"},
            ).response()
        path = scope["path"]
        found = self._files.get("/index.html" if path == "/" else path)
        if found is None and "." not in path.rpartition("/")[2]:
            return RedirectResponse("/#" + quote(path), status_code=303)  # where its views are
        if found is None:
            message = f"there is no GET {path[:200]}"
            return ApiError(404, message, code="unknown_url").response()
        headers = dict(scope["headers"])
        common = {"etag": found.tag, "cache-control": FRESH, "vary": "accept-encoding"}
        if found.tag.encode() in headers.get(b"if-none-match", b""):
            return Response(status_code=304, headers=common)
        body = found.content
        if found.packed is not None and b"gzip" in headers.get(b"accept-encoding", b""):
            body = found.packed
            common["content-encoding"] = "gzip"
        common["content-length"] = str(len(body))
        shown = b"" if scope["method"] == "HEAD" else body
        return Response(shown, headers=common, media_type=found.kind)
