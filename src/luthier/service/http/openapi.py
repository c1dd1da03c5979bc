"""The OpenAPI document: what the framework finds, with security and errors on every operation."""

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from luthier.service.http.door.guard import PUBLIC

SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"cookie": []}]
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "luthier_session"},
}
ERROR = {"$ref": "#/components/schemas/ErrorEnvelope"}


def install(app: FastAPI) -> None:
    """Make `app.openapi` give the document."""

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def document(app: FastAPI) -> dict[str, object]:
    """The document of an application."""
    made = get_openapi(
        title="luthier",
        version=app.version,
        description="Fine-tuning on this machine: OpenAI's surface under /v1, the rest under /api.",
        routes=app.routes,
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    from luthier.service.http.schemas import ErrorEnvelope

    shape = TypeAdapter(ErrorEnvelope).json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(shape.pop("$defs", {}))
    schemas["ErrorEnvelope"] = shape
    made["components"]["securitySchemes"] = SCHEMES
    refusal = {"description": "Refused", "content": {"application/json": {"schema": ERROR}}}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= {"4XX": refusal, "5XX": refusal}
            if path not in PUBLIC:
                operation["security"] = SECURITY
    return made
