"""Uploads: one file and a few short fields, streamed to the disk as they arrive.

The file goes into a nameless temporary file beside where it will stay, so that a cut connection
leaves nothing, and a full disk is met before anything was promised.
"""

import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from luthier.durable import require_space
from luthier.limits import FIELD_BYTES, FORM_PARTS
from luthier.service.http.door.envelope import ApiError

MAX_HEADER_BYTES = 16 * 1024
SPARE_BYTES = 64 << 20


class Upload:
    """What a form held.  Entered, it closes the temporary file at the end.

    `fields` are texts by name; `stream` is the file from its start.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.stream: IO[bytes] | None = None
        self.size = 0
        self._folder, self._wanted = folder, name
        self._pending: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._name, self._value = b"", b""
        self._field: str | None = None
        self._text = b""
        self._num_parts = 0
        self.whole = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the temporary file go."""
        if self.stream is not None:
            self.stream.close()

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_done,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > FORM_PARTS:
            raise _bad(f"more than {FORM_PARTS} parts")
        self._headers, self._text, self._field = {}, b"", None

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._bound(self._name)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bound(self._value)

    def _bound(self, text: bytes) -> None:
        if len(text) > MAX_HEADER_BYTES:
            raise _bad(f"a header of more than {MAX_HEADER_BYTES:,} bytes")

    def _header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name, self._value = b"", b""

    def _headers_done(self) -> None:
        kind, options = parse_options_header(self._headers.get("content-disposition", ""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or not name:
            raise _bad("a part without a name")
        if name == self._wanted:
            if self.stream is not None:
                raise _bad("more than one file")
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace") or "file"
            self.stream = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - `close` closes it
        else:
            self._field = name[:100]

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self.size += end - start
            self._pending.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > FIELD_BYTES:
            raise _bad(f"the field {self._field!r} is longer than {FIELD_BYTES:,} bytes")

    def _part_end(self) -> None:
        if self._field is not None:
            self.fields[self._field] = self._text.decode("utf-8", "replace")

    def _end(self) -> None:
        self.whole = True

    def flush(self) -> None:
        """Write what has been parsed."""
        if self._pending:
            assert self.stream is not None
            require_space(self._folder, SPARE_BYTES)
            self.stream.writelines(self._pending)
            self._pending = []


async def read_upload(request: Request, folder: Path, *, name: str = "file") -> Upload:
    """The form of a request; its part `name` is the file.

    Raises:
        ApiError: 400: no form, cut off, too many parts, no file in it.
        DiskFullError: It does not fit.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 200:
        raise _bad("the boundary is missing")
    upload = Upload(folder, name)
    parser = MultipartParser(boundary, upload.callbacks())
    try:
        async for piece in request.stream():
            parser.write(piece)
            if upload.size:
                await run_in_threadpool(upload.flush)
        parser.finalize()
        if not upload.whole:
            raise _bad("it ends before its last boundary")
        if upload.stream is None:
            raise ApiError(400, f"there is no part named {name}", code="missing_file", param=name)
        upload.stream.seek(0)
    except (FormParserError, ClientDisconnect) as error:
        upload.close()
        raise _bad(str(error) or "it was cut off") from error
    except BaseException:
        upload.close()
        raise
    return upload


def _bad(why: str) -> ApiError:
    return ApiError(
        400,
        "the upload is not a form as it should be",
        code="bad_multipart",
        why=why[:300],
        fix='curl -F purpose=fine-tune -F file=@rows.jsonl -H "Authorization: Bearer $TOKEN" ...',
    )
