"""Data, plan and advice: what is asked before a job is made.  Helpers answer, in their processes."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field, TypeAdapter
from starlette.responses import Response

from luthier.bounded import decode
from luthier.config.read import load
from luthier.durable import make_folders
from luthier.errors import SettingsError
from luthier.languages import Language
from luthier.service.http import schemas
from luthier.service.http.door.envelope import ApiError, ApiJson, not_found
from luthier.service.http.door.policy import may_use
from luthier.service.http.door.refusals import refusal
from luthier.service.http.models import known_model
from luthier.service.http.openai.create import Strict
from luthier.service.http.page.commands import commands
from luthier.service.http.parts import FILE_ID, Parts, parts
from luthier.service.http.wire import file_object

router = APIRouter(prefix="/api", tags=["data"])
Name = Annotated[str, Field(min_length=1, max_length=512)]
Objective = Literal["sft", "dpo", "kto", "text"]
Columns = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=4000)]],
    Field(max_length=64),
]
CHECK_S, PLAN_S = 300.0, 60.0


class CheckRequest(Strict):
    """What the rows are checked for."""

    model: Name | None = None
    objective: Objective | None = None
    columns: Columns | None = None
    lang: Language = "en"


class ColumnsRequest(Strict):
    """Our names for those of a file, as the setting `columns`; null forgets them."""

    columns: Columns | None


class PlanRequest(Strict):
    """Settings, and the device to plan for; this machine where none is given."""

    settings: dict[str, object]
    device: Annotated[str, Field(max_length=100)] | None = None


class AdviseRequest(Strict):
    """What one has and wants."""

    model: Name
    file_ids: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=16)]
    goal: Annotated[str, Field(max_length=2000)] | None = None
    lang: Language = "en"


class RenderRequest(Strict):
    """A conversation whose prompt is wanted."""

    model: Name
    messages: Annotated[list[dict[str, object]], Field(min_length=1, max_length=2048)]
    tools: Annotated[list[dict[str, object]], Field(max_length=128)] | None = None


@router.post("/files/{file_id}/check", response_model=schemas.Anything)
def check(request: Request, file_id: str, body: CheckRequest) -> Response:
    """What the doctor finds in a file: formats, lengths, and every row with something wrong."""
    found = parts(request)
    asked = {
        "files": [_path(found, file_id)],
        "model": known_model(found, body.model) if body.model else None,
        "objective": body.objective,
        "columns": body.columns or found.files.get(file_id).columns,
        "lang": body.lang,
    }
    report = found.help("check", asked, timeout_s=CHECK_S)
    return ApiJson(_labelled(found, file_id, report))


@router.post("/files/{file_id}/fix", response_model=schemas.Anything)
def fix(request: Request, file_id: str) -> Response:
    """A new file with what can be mended mended; the old one stays as it is."""
    found = parts(request)
    old = found.files.get(file_id) if FILE_ID.fullmatch(file_id) else None
    if old is None:
        raise not_found("file", file_id, param="file_id")
    unfinished = found.home / "service" / "uploads"  # emptied when the server starts
    make_folders(unfinished)
    with tempfile.TemporaryDirectory(prefix="fix-", dir=unfinished) as folder:
        target = Path(folder) / "rows.jsonl"
        answer = found.help(
            "fix",
            {"file": str(found.files.path(file_id)), "target": str(target), "columns": old.columns},
            timeout_s=CHECK_S,
        )
        with target.open("rb") as stream:
            stem = old.filename.rpartition(".")[0] or old.filename
            new = found.files.add(stream, f"{stem}-fixed.jsonl", old.purpose)
    return ApiJson({"file": file_object(new), "done": answer.get("done", [])})


@router.get("/files/{file_id}/rows", response_model=schemas.Anything)
def rows(
    request: Request,
    file_id: str,
    model: Annotated[str, Query(min_length=1, max_length=512)] = "starter",
    first: Annotated[int, Query(alias="from", ge=1, le=10**9)] = 1,
    count: Annotated[int, Query(ge=1, le=100)] = 20,
    objective: Objective = "sft",
    columns: Annotated[str | None, Query(max_length=16_384)] = None,
) -> Response:
    """Rows as the model will see them, with what is learned marked.

    `columns` is JSON, to try a reading before it is kept; without it the one that is kept.
    """
    found = parts(request)
    settings = {
        "model": known_model(found, model),
        "dataset": [_path(found, file_id)],
        "objective": objective,
        "columns": _columns(columns) or found.files.get(file_id).columns,
    }
    answer = found.help("preview", {"settings": settings, "first": first, "count": count})
    return ApiJson(_labelled(found, file_id, answer))


@router.get("/files/{file_id}/raw", response_model=schemas.Anything)
def raw(request: Request, file_id: str, count: Annotated[int, Query(ge=1, le=20)] = 3) -> Response:
    """The first rows as they were written, and what the names of their columns suggest."""
    found = parts(request)
    answer = found.help("raw", {"file": _path(found, file_id), "count": count})
    kept = found.files.get(file_id).columns
    return ApiJson({**answer, "kept": dict(kept) if kept else None})


@router.put("/files/{file_id}/columns", response_model=schemas.FileObject)
def keep_columns(request: Request, file_id: str, body: ColumnsRequest) -> Response:
    """Keep with a file how its columns are read; jobs that name it use that."""
    found = parts(request)
    _path(found, file_id)
    return ApiJson(file_object(found.files.keep_columns(file_id, body.columns)))


def _columns(text: str | None) -> dict[str, str] | None:
    """`columns` of an address."""
    if not text:
        return None
    try:
        return TypeAdapter(Columns).validate_python(decode(text))
    except ValueError as error:
        raise ApiError(
            400, "columns is no JSON object of texts", code="invalid_value", param="columns"
        ) from error


@router.post("/plan", response_model=schemas.Anything)
def plan(request: Request, body: PlanRequest) -> Response:
    """Memory, time and disk of a run before it is started, what `auto` becomes, and how to start it."""
    found = parts(request)
    asked = dict(body.settings)
    settings = resolved_paths(found, asked)
    answer = found.help("plan", {"settings": settings, "device": body.device}, timeout_s=PLAN_S)
    host = request.headers.get("host", "127.0.0.1")
    return ApiJson(
        {**answer, "commands": commands(asked, base_url=f"http://{host}", here=settings)}
    )


@router.post("/plan/batches", response_model=schemas.Anything)
def batches(request: Request, body: PlanRequest) -> Response:
    """Peak and time for batch sizes and lengths beside those of the settings; which fit."""
    found = parts(request)
    settings = resolved_paths(found, dict(body.settings))
    asked = {"settings": settings, "device": body.device}
    return ApiJson(found.help("batches", asked, timeout_s=PLAN_S))


def resolved_paths(found: Parts, asked: dict[str, object]) -> dict[str, object]:
    """Settings that a helper can use: names and ids replaced by where things are.

    Raises:
        ApiError: 400: a setting cannot be used.
    """
    settings = dict(asked)
    if isinstance(model := settings.get("model"), str):
        settings["model"] = known_model(found, model)
    for name in ("dataset", "eval_dataset"):
        given = settings.get(name)
        many = [given] if isinstance(given, str) else given
        if isinstance(many, list):
            settings[name] = [
                _path(found, one) if isinstance(one, str) and one.startswith("file-") else one
                for one in many
            ]
    try:
        if settings.get("columns") is None and (kept := _kept(found, asked.get("dataset"))):
            settings["columns"] = kept
        may_use(found.home, found.roots)(load(arguments=settings))
    except SettingsError as error:
        raise refusal(error, prefix="settings.") from error
    return settings


def _kept(found: Parts, dataset: object) -> dict[str, str] | None:
    """How the uploaded files among the data are read."""
    many = [dataset] if isinstance(dataset, str) else dataset
    given = many if isinstance(many, list) else []
    ids = [one for one in given if isinstance(one, str) and one.startswith("file-")]
    return found.files.columns_of(ids)


@router.post("/advise", response_model=schemas.Anything)
def advise(request: Request, body: AdviseRequest) -> Response:
    """Settings for these data and this machine, each with its reason."""
    found = parts(request)
    files = [_path(found, id) for id in body.file_ids]
    asked = {"model": known_model(found, body.model), "files": files, "lang": body.lang}
    columns = _kept(found, body.file_ids)
    return ApiJson(
        found.help("advise", {**asked, "columns": columns, "goal": body.goal}, timeout_s=CHECK_S)
    )


@router.post("/render", response_model=schemas.Anything)
def render(request: Request, body: RenderRequest) -> Response:
    """The prompt a conversation becomes, as text and as tokens."""
    found = parts(request)
    model = known_model(found, body.model)
    asked = {"model": model, "messages": body.messages, "tools": body.tools}
    return ApiJson(found.help("render", asked))


def _path(found: Parts, file_id: str) -> str:
    if not FILE_ID.fullmatch(file_id):
        raise not_found("file", file_id, param="file_id")
    return str(found.files.path(file_id))


def _labelled(found: Parts, file_id: str, answer: object) -> object:
    """The answer with the name the person gave where the server's own path stood."""
    path, label = str(found.files.path(file_id)), found.files.get(file_id).filename

    def name(value: object) -> object:
        if isinstance(value, str):
            return value.replace(path, label)
        if isinstance(value, dict):
            return {key: name(item) for key, item in value.items()}
        return [name(item) for item in value] if isinstance(value, list) else value

    return name(answer)
