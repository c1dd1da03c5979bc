"""The machine, the gallery, the settings: what a new job is chosen from."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from luthier.config.settings import GROUPS, Settings
from luthier.errors import LuthierError
from luthier.gallery import all_models, find_model
from luthier.service.http import schemas
from luthier.service.http.catalogue import gallery_entry, settings_list
from luthier.service.http.envelope import ApiJson, not_found
from luthier.service.http.feeds import all_feed
from luthier.service.http.machine import machine
from luthier.service.http.models import list_models
from luthier.service.http.parts import parts
from luthier.service.http.streams import EventStream

router = APIRouter(prefix="/api", tags=["machine"])
STREAM_REPLY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.get("/machine", response_model=schemas.Machine)
def get_machine(request: Request) -> Response:
    """Devices and who holds them, memory, disk, and how long the queue is."""
    return ApiJson(machine(parts(request)))


@router.get("/stream", response_class=Response, responses=STREAM_REPLY)
async def stream(request: Request) -> Any:
    """Server-sent events: `state` and `step` of every job, `machine`."""
    found = parts(request)
    found.hub.gate.enter()
    return EventStream(
        found.hub.batches("all", lambda: all_feed(found)),
        gate=found.hub.gate,
        stalled_s=found.limits.stalled_client_s,
    )


@router.get("/settings", response_model=schemas.Anything)
def get_settings() -> Response:
    """Every setting with type, choices, default, help and group."""
    return ApiJson({"settings": settings_list(Settings, GROUPS)})


@router.get("/gallery", response_model=schemas.Anything)
def gallery(
    request: Request, device: Annotated[str | None, Query(max_length=100)] = None
) -> Response:
    """The models of the gallery, with what fits this machine."""
    found = parts(request)
    try:
        marks = found.help("gallery_marks", {"device": device})
    except LuthierError as error:
        marks = {"unknown": error.what}
    tables: dict[str, Any] = marks.get("marks") or {}
    local = {model["id"] for model in list_models(found)}
    models = [gallery_entry(model, tables.get(model.name), local) for model in all_models()]
    return ApiJson({"models": models, "device": marks.get("device")})


@router.get("/gallery/{name:path}", response_model=schemas.Anything)
def gallery_model(request: Request, name: str) -> Response:
    """Everything known about one model."""
    model = find_model(name)
    if model is None:
        raise not_found("model", name, param="name")
    found = parts(request)
    try:
        answer = found.help("gallery_marks", {"device": None, "names": [model.name]})
    except LuthierError as error:
        answer = {"unknown": error.what}
    tables: dict[str, Any] = answer.get("marks") or {}
    local = {one["id"] for one in list_models(found)}
    return ApiJson(gallery_entry(model, tables.get(model.name), local, whole=True))


@router.get("/models", response_model=schemas.Anything)
def models(request: Request) -> Response:
    """Bases that are at hand and tuned models, for choosing one to chat with."""
    return ApiJson({"models": list_models(parts(request))})


@router.get("/formats", response_model=schemas.Anything)
def formats(request: Request) -> Response:
    """The data formats that are read, each with an example."""
    return ApiJson(parts(request).help("formats", {}))
