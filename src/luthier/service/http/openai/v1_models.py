"""`/v1/models`: what can be named in a request.  Names may hold slashes, sent plain or encoded."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from luthier.service.http import schemas
from luthier.service.http.door.envelope import ApiError, ApiJson
from luthier.service.http.models import list_models, one_model, tuned_job
from luthier.service.http.parts import parts

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", response_model=schemas.ModelList)
def models(request: Request) -> Response:
    """Models at hand: bases that are on this machine, and tuned ones."""
    return ApiJson({"object": "list", "data": list_models(parts(request))})


@router.get("/{model:path}", response_model=schemas.ModelObject)
def model(request: Request, model: str) -> Response:
    """One model; any of the gallery can be asked for."""
    return ApiJson(one_model(parts(request), model))


@router.delete("/{model:path}", response_model=schemas.Deleted)
def delete_model(request: Request, model: str) -> Response:
    """Delete a tuned model, with the job that made it and its run directory."""
    found = parts(request)
    one_model(found, model)
    job = tuned_job(found, model) if model.startswith("ft:") else None
    if job is None:
        raise ApiError(
            403,
            f"{model[:120]!r} is a base model",
            code="permission_denied",
            param="model",
            why="only tuned models can be deleted here",
        )
    found.jobs.delete(job.id)
    return ApiJson({"id": model, "object": "model", "deleted": True})
