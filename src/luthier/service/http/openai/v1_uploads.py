"""`/v1/uploads`: a big file in parts, which become one file when all are there.

What has arrived is in a folder of its own and in the memory of this server; a restart forgets
uploads that were not completed, and the next start removes their parts.
"""

import contextlib
import hashlib
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from luthier.durable import make_folders
from luthier.limits import UPLOAD_PARTS, UPLOADS_OPEN
from luthier.service.files import PURPOSES, File
from luthier.service.http import schemas
from luthier.service.http.door.envelope import ApiError, ApiJson, not_found
from luthier.service.http.door.multipart import Upload as Form
from luthier.service.http.door.multipart import read_upload
from luthier.service.http.openai.create import Strict
from luthier.service.http.parts import parts
from luthier.service.http.wire import file_object

router = APIRouter(prefix="/v1/uploads", tags=["files"])
LIFE_S = 3600
CHUNK_BYTES = 1 << 20
PART_BODY: dict[str, object] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


class CreateUpload(Strict):
    """A file that will arrive in parts."""

    bytes: Annotated[int, Field(ge=0, le=2**53)]
    filename: Annotated[str, Field(min_length=1, max_length=4096)]
    mime_type: Annotated[str, Field(max_length=255)]
    purpose: Annotated[str, Field(max_length=60)]
    expires_after: dict[str, object] | None = None


class CompleteUpload(Strict):
    """Its parts in their order."""

    part_ids: Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=UPLOAD_PARTS)]
    md5: Annotated[str, Field(max_length=64)] | None = None


@dataclass
class _Pending:
    id: str
    size: int
    filename: str
    purpose: str
    folder: Path
    created: float = field(default_factory=time.time)
    status: Literal["pending", "completed", "cancelled", "expired"] = "pending"
    parts: dict[str, int] = field(default_factory=dict)
    alone: threading.Lock = field(default_factory=threading.Lock)
    file: File | None = None

    @property
    def received(self) -> int:
        return sum(self.parts.values())

    def view(self) -> dict[str, object]:
        return {
            "id": self.id,
            "object": "upload",
            "bytes": self.size,
            "created_at": int(self.created),
            "expires_at": int(self.created + LIFE_S),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": self.status,
            "file": file_object(self.file) if self.file else None,
        }

    def end(self, status: Literal["completed", "cancelled", "expired"]) -> None:
        self.status = status
        shutil.rmtree(self.folder, ignore_errors=True)


class Uploads:
    """The uploads of one server.

    Args:
        folder: Where parts are kept until they are a file; emptied at the start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._open: dict[str, _Pending] = {}
        shutil.rmtree(folder, ignore_errors=True)

    def add(self, body: CreateUpload) -> _Pending:
        """Begin one.

        Raises:
            ApiError: 429: too many have been begun and not ended.
        """
        with self._lock:
            for one in self._open.values():
                old = one.status == "pending" and time.time() > one.created + LIFE_S
                if old and one.alone.acquire(blocking=False):  # one that is worked on is not old
                    one.end("expired")
                    one.alone.release()
            pending = [one for one in self._open.values() if one.status == "pending"]
            if len(pending) >= UPLOADS_OPEN:
                raise ApiError(
                    429,
                    f"{UPLOADS_OPEN} uploads have been begun and not completed",
                    code="too_many_uploads",
                    fix="complete or cancel some",
                    headers={"retry-after": "60"},
                )
            id = f"upload_{secrets.token_hex(12)}"
            made = _Pending(id, body.bytes, body.filename, body.purpose, self._folder / id)
            make_folders(made.folder)
            self._open[id] = made
            while len(self._open) > 4 * UPLOADS_OPEN:  # forget those that ended longest ago
                del self._open[
                    next(key for key, one in self._open.items() if one.status != "pending")
                ]
        return made

    def get(self, id: str) -> _Pending:
        """One of them, whatever its state.

        Raises:
            ApiError: 404.
        """
        found = self._open.get(id)
        if found is None:
            raise not_found("upload", id, param="upload_id")
        return found

    @contextlib.contextmanager
    def pending(self, id: str) -> Iterator[_Pending]:
        """One that still takes parts, alone.

        Raises:
            ApiError: 404, or 400: it has ended.
        """
        found = self.get(id)
        with found.alone:
            if found.status == "pending" and time.time() > found.created + LIFE_S:
                found.end("expired")
            if found.status != "pending":
                raise ApiError(
                    400, f"{id} is {found.status}", code="upload_ended", param="upload_id"
                )
            yield found


def _uploads(request: Request) -> Uploads:
    found = request.app.state.uploads
    assert isinstance(found, Uploads)
    return found


@router.post("", response_model=schemas.UploadObject)
def create_upload(request: Request, body: CreateUpload) -> Response:
    """Begin an upload in parts; it has an hour."""
    if body.purpose not in PURPOSES:
        why = f"it is one of {', '.join(PURPOSES)}"
        message = f"purpose={body.purpose!r} is not a purpose of a file"
        raise ApiError(400, message, code="invalid_value", param="purpose", why=why)
    if body.bytes > parts(request).limits.upload_bytes:
        message = f"bytes={body.bytes} is more than {parts(request).limits.upload_bytes:,}"
        raise ApiError(413, message, code="too_large", param="bytes")
    return ApiJson(_uploads(request).add(body).view())


@router.post("/{upload_id}/parts", response_model=schemas.UploadPart, openapi_extra=PART_BODY)
async def add_part(request: Request, upload_id: str) -> Response:
    """Keep the bytes of the next stretch; the order is told when the upload is completed."""
    found, uploads = parts(request), _uploads(request)
    folder = await run_in_threadpool(_folder, uploads, upload_id)  # waits while it is put together
    with found.uploading.held():
        form = await read_upload(request, folder, name="data")
        with form:
            part_id = await run_in_threadpool(_keep, uploads, upload_id, form)
    body = {"id": part_id, "object": "upload.part", "created_at": int(time.time())}
    return ApiJson({**body, "upload_id": upload_id})


def _folder(uploads: Uploads, upload_id: str) -> Path:
    with uploads.pending(upload_id) as upload:
        return upload.folder


def _keep(uploads: Uploads, upload_id: str, form: Form) -> str:
    with uploads.pending(upload_id) as upload:
        if len(upload.parts) >= UPLOAD_PARTS or upload.received + form.size > upload.size:
            raise ApiError(
                400,
                f"the parts have more than the {upload.size:,} bytes that were announced",
                code="invalid_value",
                param="data",
            )
        part_id = f"part_{secrets.token_hex(12)}"
        assert form.stream is not None
        with (upload.folder / part_id).open("xb") as target:
            shutil.copyfileobj(form.stream, target, CHUNK_BYTES)
        upload.parts[part_id] = form.size
    return part_id


@router.post("/{upload_id}/complete", response_model=schemas.UploadObject)
def complete_upload(request: Request, upload_id: str, body: CompleteUpload) -> Response:
    """Make a file of the parts, in the order given."""
    with _uploads(request).pending(upload_id) as upload:
        unknown = [id for id in body.part_ids if id not in upload.parts]
        if unknown or len(set(body.part_ids)) != len(body.part_ids):
            shown = unknown[0] if unknown else "one of them is given twice"
            raise ApiError(400, f"part_ids: {shown}"[:200], code="invalid_value", param="part_ids")
        if sum(upload.parts[id] for id in body.part_ids) != upload.size:
            raise ApiError(
                400,
                f"the parts have {sum(upload.parts[id] for id in body.part_ids):,} bytes, "
                f"{upload.size:,} were announced",
                code="invalid_value",
                param="part_ids",
            )
        paths = (upload.folder / id for id in body.part_ids)
        pieces = _checked(_pieces(paths), body.md5) if body.md5 else _pieces(paths)
        upload.file = parts(request).files.add(pieces, upload.filename, upload.purpose)
        upload.end("completed")
        return ApiJson(upload.view())


def _checked(pieces: Iterator[bytes], md5: str) -> Iterator[bytes]:
    """The pieces; at their end a refusal where they are not what was meant, so that no file is kept."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != md5.strip().lower():
        raise ApiError(
            400,
            f"the parts have the MD5 {digest.hexdigest()}, {md5[:40]!r} was announced",
            code="invalid_value",
            param="md5",
            why="a part is damaged, or the order is another",
        )


def _pieces(paths: Iterator[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece


@router.post("/{upload_id}/cancel", response_model=schemas.UploadObject)
def cancel_upload(request: Request, upload_id: str) -> Response:
    """Give an upload up."""
    with _uploads(request).pending(upload_id) as upload:
        upload.end("cancelled")
        return ApiJson(upload.view())
