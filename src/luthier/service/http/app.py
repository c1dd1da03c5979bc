"""The application: routes, what stands before them, and what lives as long as it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from luthier.errors import LuthierError
from luthier.service.chat_processes import ChatProcesses
from luthier.service.files import Files
from luthier.service.helper_processes import Helpers
from luthier.service.http import openapi
from luthier.service.http.door import envelope
from luthier.service.http.door.credentials import Credentials
from luthier.service.http.door.guard import GUARDED, Guard
from luthier.service.http.door.limits import Limits
from luthier.service.http.door.policy import may_use
from luthier.service.http.door.static import Page
from luthier.service.http.openai import v1_chat, v1_files, v1_jobs, v1_models, v1_uploads
from luthier.service.http.page import data_routes as own_data
from luthier.service.http.page import job_routes as own_jobs
from luthier.service.http.page import machine_routes as own_machine
from luthier.service.http.page import session_routes as own_session
from luthier.service.http.parts import Parts
from luthier.service.jobs import Jobs


def create_app(
    *,
    jobs: Jobs,
    files: Files,
    helpers: Helpers,
    chats: ChatProcesses,
    token: str,
    home: Path,
    hosts: Collection[str] = (),
    roots: Collection[Path] = (),
    limits: Limits | None = None,
) -> "Application":
    """The application of one server.

    Args:
        token: What programs send as bearer token.
        home: Folder of luthier's own files.
        hosts: Allowed Host headers with their port; none means loopback at any port.
        roots: Folders besides `home` that jobs may name by path.
        limits: Bounds of size, rate and time.
    """
    parts = Parts(
        home=home,
        jobs=jobs,
        files=files,
        helpers=helpers,
        chats=chats,
        credentials=Credentials(token),
        limits=limits or Limits(),
        roots=tuple(roots),
    )
    jobs.may_use = may_use(home, roots)
    routes = _routes(parts)
    guard = Guard(
        routes,
        credentials=parts.credentials,
        hosts=hosts,
        limits=parts.limits,
        state=parts.state,
    )
    return Application(guard, routes, parts)


def _routes(parts: Parts) -> FastAPI:
    """Every route, and what becomes of errors."""
    routes = FastAPI(
        title="luthier",
        version=version("luthier"),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    routes.state.parts, routes.state.recent = parts, v1_jobs.Recent()
    routes.state.uploads = v1_uploads.Uploads(parts.home / "service" / "uploads")
    for module in (
        own_session, v1_files, v1_uploads, v1_jobs, v1_models, v1_chat, own_machine, own_jobs, own_data,
    ):  # fmt: skip
        routes.include_router(module.router)
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        envelope.ApiError: envelope.on_api_error,
        LuthierError: envelope.on_luthier_error,
        HTTPException: envelope.on_http_error,
        RequestValidationError: envelope.on_validation_error,
        Exception: envelope.on_fault,
    }
    for kind, handler in handlers.items():
        routes.add_exception_handler(kind, handler)
    openapi.install(routes)
    routes.router.default = _Rest(Page())
    return routes


class _Rest:
    """What no route takes: the page, and a refusal for everything that looks like the API."""

    def __init__(self, page: ASGIApp) -> None:
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(GUARDED):
            message = f"there is no {scope['method']} {scope['path'][:200]}"
            answer = envelope.ApiError(404, message, code="unknown_url").response()
            await answer(scope, receive, send)
        else:
            await self._page(scope, receive, send)


class Application:
    """An ASGI application, with the parts it stands on."""

    def __init__(self, guarded: ASGIApp, routes: FastAPI, parts: Parts) -> None:
        self._guarded, self.routes, self.parts = guarded, routes, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        await self._guarded(scope, receive, send)

    def close(self) -> None:
        """Answer 503 from now on and end every event stream; safe from a signal handler."""
        self.parts.state.closing = True
        self.parts.hub.close()
        self.parts.helpers.close()


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    turning = asyncio.create_task(parts.hub.run())
    try:
        yield
    finally:
        parts.state.closing = True
        parts.hub.close()
        parts.helpers.close()
        parts.chats.kill()  # threads that wait for an answer of theirs end now
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
        parts.hub.stop()
