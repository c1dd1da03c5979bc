"""The machine, the gallery, the settings: what a new job is chosen from."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from luthier.config.settings import GROUPS, Settings
from luthier.gallery import all_models, find_model
from luthier.service.http import page_schemas, schemas
from luthier.service.http.door.envelope import ApiJson, not_found
from luthier.service.http.feeds import all_feed
from luthier.service.http.live.streams import EventStream
from luthier.service.http.machine import machine
from luthier.service.http.models import list_models
from luthier.service.http.page.catalogue import gallery_entry, gallery_marks, settings_list
from luthier.service.http.parts import parts

router = APIRouter(prefix="/api", tags=["machine"])
STREAM_REPLY: dict[int | str, dict[str, object]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.get("/machine", response_model=page_schemas.MachineView)
def get_machine(request: Request) -> Response:
    """Devices and who holds them, memory, disk, and how long the queue is."""
    return ApiJson(machine(parts(request)))


@router.get("/stream", response_class=Response, responses=STREAM_REPLY)
async def stream(request: Request) -> Response:
    """Server-sent events: `state` and `step` of every job, `machine`."""
    found = parts(request)
    found.hub.gate.enter()
    return EventStream(
        found.hub.batches("all", lambda: all_feed(found)),
        gate=found.hub.gate,
        stalled_s=found.limits.stalled_client_s,
    )


@router.get("/settings", response_model=page_schemas.SettingViewList)
def get_settings() -> Response:
    """Every setting with type, choices, default, help and group."""
    return ApiJson({"settings": settings_list(Settings, GROUPS)})


@router.get("/gallery", response_model=schemas.Anything)
def gallery(
    request: Request, device: Annotated[str | None, Query(max_length=100)] = None
) -> Response:
    """The models of the gallery, with what fits this machine, or the device given."""
    name, marks = gallery_marks(device)
    local = {model["id"] for model in list_models(parts(request))}
    models = [gallery_entry(model, marks.get(model.name), local) for model in all_models()]
    return ApiJson({"models": models, "device": name})


@router.get("/gallery/{name:path}", response_model=schemas.Anything)
def gallery_model(request: Request, name: str) -> Response:
    """Everything known about one model."""
    model = find_model(name)
    if model is None:
        raise not_found("model", name, param="name")
    device, marks = gallery_marks(None)
    local = {one["id"] for one in list_models(parts(request))}
    entry = gallery_entry(model, marks.get(model.name), local, whole=True)
    return ApiJson({**entry, "device": device})


@router.get("/models", response_model=schemas.Anything)
def models(request: Request) -> Response:
    """Bases that are at hand and tuned models, for choosing one to chat with."""
    return ApiJson({"models": list_models(parts(request))})


@router.get("/formats", response_model=schemas.Anything)
def formats(request: Request) -> Response:
    """The data formats that are read, each with an example."""
    return ApiJson(parts(request).help("formats", {}))
