"""Errors as HTTP: one envelope for every route, which OpenAI's clients understand.

`{"error": {"message", "type", "param", "code", "why", "fix"}}`.  A conflict with the state of a job
is 400, because the clients send a request again after 409; a refusal that no repetition can change
carries `x-should-retry: false`.
"""

import json
import re
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path

from luthier.errors import LuthierError

NO_RETRY = {"x-should-retry": "false"}
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    507: "server_error",
}
STATUS_OF_KIND = {
    "DiskFullError": 507,
    "ModelNotFoundError": 404,
    "RunNotFoundError": 404,
    "JobNotFoundError": 404,
    "UploadNotFoundError": 404,
    "UploadTooLargeError": 413,
    "QueueFullError": 429,
    "ChatBusyError": 503,
    "HelperError": 503,
    "StoreError": 500,
}
"""Kinds of errors that are not simply the client's: everything else is 400."""

WIRE_CODES = {
    "CapacityError": "insufficient_gpu_memory",
    "OutOfMemoryError": "cuda_out_of_memory",
    "DiskFullError": "disk_full",
    "ModelNotFoundError": "model_not_found",
    "JobNotFoundError": "job_not_found",
    "UploadNotFoundError": "file_not_found",
    "QueueFullError": "queue_full",
    "ChatBusyError": "chat_busy",
}
"""Names that OpenAI's clients would expect for some of our codes."""


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_KINDS = ("int", "float", "str", "bool", "literal", "dict", "list")


class ApiError(Exception):
    """A refusal of one request.

    Args:
        status: HTTP status.
        message: What is wrong, with the value in it.
        code: A short name programs may test for.
        param: The field or setting it is about, as a dotted path.
        why: The rule, with its numbers.
        fix: Something to paste.
        headers: Further headers of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        why: str = "",
        fix: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.why, self.fix, self.headers = why, fix, dict(headers or {})

    def body(self) -> dict[str, object]:
        """The envelope."""
        return envelope(
            self.status,
            self.message,
            code=self.code,
            param=self.param,
            why=self.why,
            fix=self.fix,
        )

    def response(self) -> JSONResponse:
        """The reply."""
        return ApiJson(self.body(), self.status, _with_retry(self.status, self.headers))


class ApiJson(JSONResponse):
    """JSON without a number that JSON has not, and without half a surrogate pair that has no bytes."""

    def render(self, content: object) -> bytes:
        return dump(content)


def dump(content: object) -> bytes:
    """Compact JSON; NaN and infinities are null."""
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (ValueError, UnicodeEncodeError):
        return json.dumps(finite(content), allow_nan=False, separators=(",", ":")).encode()


def finite(value: object) -> object:
    """The value with null for every number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def envelope(status: int, message: str, **more: object) -> dict[str, object]:
    """The body of a refusal."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if more.get("code") == "invalid_api_key":
        kind = "authentication_error"
    error = {"message": message, "type": kind, "param": None, "code": None, **more}
    return {"error": {name: value for name, value in error.items() if value != ""}}


def not_found(kind: str, identifier: str, *, param: str | None = None) -> ApiError:
    """The refusal for an id that is unknown; forged and forbidden ones read the same."""
    shown = identifier if len(identifier) <= 80 else f"{identifier[:77]}..."
    name = kind.replace(" ", "_")
    return ApiError(404, f"no {kind} {shown!r}", code=f"{name}_not_found", param=param)


def of_luthier(error: LuthierError, *, param: str | None = None) -> ApiError:
    """An error of ours as a refusal."""
    kind = type(error).__name__
    status = STATUS_OF_KIND.get(kind, 400)
    headers = {"retry-after": "5"} if status in (429, 503) else {}
    return ApiError(
        status,
        error.what,
        code=WIRE_CODES.get(kind, error.code),
        param=param,
        why=error.why,
        fix=error.fix,
        headers=headers,
    )


def _with_retry(status: int, headers: Mapping[str, str]) -> dict[str, str]:
    """Tell OpenAI's clients not to repeat what cannot succeed."""
    waits = status in (429, 503) and "retry-after" in headers
    return {**headers} if waits or status in (408, 500) else {**NO_RETRY, **headers}


async def on_api_error(request: Request, error: Exception) -> Response:
    """Handler of `ApiError`."""
    assert isinstance(error, ApiError)
    return error.response()


async def on_luthier_error(request: Request, error: Exception) -> Response:
    """Handler of `LuthierError`."""
    assert isinstance(error, LuthierError)
    return of_luthier(error).response()


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handler of the framework's own refusals: unknown routes and methods."""
    status = int(getattr(error, "status_code", 500))
    headers = getattr(error, "headers", None) or {}
    said = str(getattr(error, "detail", ""))
    if status == 404:
        said, code = f"there is no {request.method} {request.url.path[:200]}", "unknown_url"
    elif status == 405:
        said, code = f"{request.method} is not possible here", "method_not_allowed"
        if methods := _methods(request):
            headers = {"allow": ", ".join(sorted(methods))}
    else:
        code = "bad_request"
    return ApiError(status, said, code=code, headers=headers).response()


def _methods(request: Request) -> set[str]:
    """Every method there is for this path; the framework names those of one route."""
    path = request.url.path
    found: set[str] = set()
    for template, operations in request.app.openapi()["paths"].items():
        if compile_path(template)[0].match(path):
            found |= {method.upper() for method in operations}
    return found


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Handler of a body or query that does not fit: 400, every problem named, never 422."""
    details = error.errors() if hasattr(error, "errors") else []
    problems = [(_path(detail["loc"]), _said(detail)) for detail in details]
    if not problems:
        return ApiError(400, "the request cannot be read", code="bad_request").response()
    param, first = problems[0]
    message = f"{param}: {first}" if param else first
    why = "; ".join(f"{name}: {said}" for name, said in problems[1:12])
    return ApiError(
        400, message[:500], code="invalid_value", param=param or None, why=why[:2000]
    ).response()


async def on_fault(request: Request, error: Exception) -> Response:
    """Handler of everything else: our fault, told without its inside."""
    return ApiError(500, "a fault of luthier; the server's log has it", code="fault").response()


def _path(place: tuple[object, ...]) -> str:
    parts = []
    for part in place:
        if not isinstance(part, int) and not _NAME.fullmatch(str(part)):
            break  # the kind of value that was tried, which is no field
        if part not in ("body", "query", "path", "header", *_KINDS):
            parts.append(str(part))
    return ".".join(parts)[:200]


def _said(detail: Mapping[str, object]) -> str:
    message = str(detail.get("msg", "")).removeprefix("Value error, ")
    message = message.replace("Input should", "should")
    given = detail.get("input")
    if detail.get("type") == "extra_forbidden":
        return "is not a field of this request"
    if isinstance(given, str | int | float | bool) and detail.get("type") != "missing":
        shown = repr(given)
        return f"{message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"
    return message
