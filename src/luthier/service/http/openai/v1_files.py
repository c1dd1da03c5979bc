"""`/v1/files`: what people upload, and the figures of finished runs."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from luthier.errors import LuthierError
from luthier.service.files import PURPOSES, File
from luthier.service.http import schemas
from luthier.service.http.door.envelope import ApiError, ApiJson, not_found
from luthier.service.http.door.multipart import Upload, read_upload
from luthier.service.http.parts import FILE_ID, limited, parts
from luthier.service.http.wire import file_object, page

router = APIRouter(prefix="/v1/files", tags=["files"])
UPLOAD_BODY: dict[str, object] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": list(PURPOSES)},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "string", "pattern": "^[0-9]{4,7}$"},
                    },
                }
            }
        },
    }
}


@router.post("", response_model=schemas.FileObject, openapi_extra=UPLOAD_BODY)
async def create_file(request: Request) -> Response:
    """Upload a file.  It exists when this answers, and not at all when it is cut off."""
    found = parts(request)
    with found.uploading.held():
        upload = await read_upload(request, found.files.folder)
        with upload:
            file = await run_in_threadpool(_add, request, upload)
    return ApiJson(file_object(file))


def _add(request: Request, upload: Upload) -> File:
    purpose = upload.fields.get("purpose", "")
    if purpose not in PURPOSES:
        raise ApiError(
            400,
            f"purpose={purpose[:60]!r} is not a purpose of a file",
            code="invalid_value",
            param="purpose",
            why=f"it is one of {', '.join(PURPOSES)}",
            fix="purpose=fine-tune",
        )
    assert upload.stream is not None
    return parts(request).files.add(upload.stream, upload.filename, purpose)


@router.get("", response_model=schemas.FileList)
def list_files(
    request: Request,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: Annotated[str | None, Query(max_length=60)] = None,
) -> Response:
    """Uploaded files, newest first."""
    limited(limit, low=1, high=10_000)
    found, more = parts(request).files.list(
        purpose=purpose, after=_cursor(request, after), limit=limit, order=order
    )
    return ApiJson(page([file_object(file) for file in found], more))


def _cursor(request: Request, after: str | None) -> str | None:
    if after is None:
        return None
    try:
        return parts(request).files.get(after).id if FILE_ID.fullmatch(after) else _no_cursor(after)
    except LuthierError:
        return _no_cursor(after)


def _no_cursor(after: str) -> str:
    raise ApiError(
        400, f"after={after[:60]!r} is no file of this list", code="invalid_value", param="after"
    )


@router.get("/{file_id}", response_model=schemas.FileObject)
def get_file(request: Request, file_id: str) -> Response:
    """Name, size and purpose of an uploaded file."""
    return ApiJson(file_object(_file(request, file_id)))


@router.delete("/{file_id}", response_model=schemas.Deleted)
def delete_file(request: Request, file_id: str) -> Response:
    """Delete a file; refused while a job that has not ended reads it."""
    parts(request).files.delete(_file(request, file_id).id)
    return ApiJson({"id": file_id, "object": "file", "deleted": True})


@router.get(
    "/{file_id}/content",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}},
)
def get_content(request: Request, file_id: str) -> Response:
    """The bytes of a file, as they were uploaded."""
    file = _file(request, file_id)
    path = parts(request).files.path(file.id)
    return FileResponse(path, media_type="application/octet-stream", filename=file.filename)


def _file(request: Request, file_id: str) -> File:
    if not FILE_ID.fullmatch(file_id):
        raise not_found("file", file_id, param="file_id")
    return parts(request).files.get(file_id)
