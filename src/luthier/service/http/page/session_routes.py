"""Who is asking: login, logout, and what everybody may know."""

import asyncio
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, RedirectResponse, Response

from luthier.service.http import page_schemas, schemas
from luthier.service.http.door.credentials import COOKIE, LONGEST_TOKEN, SESSION_S
from luthier.service.http.door.envelope import ApiError, ApiJson
from luthier.service.http.parts import parts

router = APIRouter(tags=["session"])
LANGUAGES = ["en", "zh", "id", "vi"]
WRONG_S = 0.2
"""A wrong guess is answered this much later."""


class Login(BaseModel):
    """The token, once; a cookie is what comes back."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(min_length=1, max_length=LONGEST_TOKEN)]


@router.get("/healthz")
async def healthz() -> Response:
    """Whether the server answers; nothing else."""
    return ApiJson({"status": "ok"})


@router.get("/api/session", response_model=schemas.Session)
async def session(request: Request) -> Response:
    """What this server is; who is logged in gets the token against forged requests too."""
    found = parts(request)
    identity = request.scope.get("luthier.identity")
    body: dict[str, object] = {
        "version": version("luthier"),
        "languages": LANGUAGES,
        "authenticated": identity is not None,
        "csrf": None,
        "home": str(found.home) if identity else None,
    }
    if identity == "session":
        body["csrf"] = found.credentials.csrf_of(request.cookies[COOKIE])
    return ApiJson(body)


@router.post("/api/login", response_model=schemas.Session)
async def login(request: Request, body: Login) -> Response:
    """Exchange the token for a cookie."""
    found = parts(request)
    if not found.credentials.is_token(body.token):
        await asyncio.sleep(WRONG_S)
        raise _wrong("the token is wrong")
    cookie = found.credentials.new_session()
    answer = ApiJson(
        {
            "version": version("luthier"),
            "languages": LANGUAGES,
            "authenticated": True,
            "csrf": found.credentials.csrf_of(cookie),
            "home": str(found.home),
        }
    )
    return _with_cookie(answer, cookie)


@router.get("/login", include_in_schema=False)
async def login_link(
    request: Request, code: Annotated[str, Query(max_length=LONGEST_TOKEN)] = ""
) -> Response:
    """The link that `luthier serve` prints: works once."""
    found = parts(request)
    if not found.credentials.take_code(code):
        if found.credentials.is_session(request.cookies.get(COOKIE, "")):  # clicked once more
            return RedirectResponse("/", status_code=303, headers={"cache-control": "no-store"})
        await asyncio.sleep(WRONG_S)
        raise _wrong("this login link has been used, or is too old")
    answer = RedirectResponse("/", status_code=303, headers={"cache-control": "no-store"})
    return _with_cookie(answer, found.credentials.new_session())


@router.post("/api/login-link", response_model=schemas.Anything)
async def new_link(request: Request) -> Response:
    """A login link that works once, for another browser."""
    return ApiJson({"path": f"/login?code={parts(request).credentials.new_code()}"})


@router.post("/api/logout", response_model=page_schemas.DoneReply)
async def logout(request: Request) -> Response:
    """Take the cookie back."""
    answer = ApiJson({"done": True})
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def _with_cookie(answer: JSONResponse | RedirectResponse, cookie: str) -> Response:
    answer.set_cookie(COOKIE, cookie, max_age=SESSION_S, path="/", httponly=True, samesite="strict")
    return answer


def _wrong(message: str) -> ApiError:
    return ApiError(
        401, message, code="invalid_api_key", fix="luthier serve --show-token shows the token"
    )
