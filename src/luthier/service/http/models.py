"""Which models a request may name: those of the gallery that are here, tuned ones, and hub ids."""

import re
from pathlib import Path

from luthier.errors import SettingsError
from luthier.gallery import find_model, nearest_names
from luthier.service.http import schemas
from luthier.service.http.door.envelope import ApiError
from luthier.service.http.door.policy import refuse_path
from luthier.service.http.door.refusals import refusal
from luthier.service.http.parts import Parts
from luthier.service.http.wire import model_object
from luthier.service.records import Job, job_of

_CHECKPOINT = re.compile(r"(?P<model>ft:.+):ckpt-step-(?P<step>[0-9]{1,12})")


def tuned_jobs(found: Parts) -> list[Job]:
    """Finished jobs whose model is there, newest first."""
    rows = found.jobs.store.read(
        "SELECT * FROM jobs WHERE state = 'finished' AND deleted = 0 AND model IS NOT NULL"
        " ORDER BY number DESC LIMIT 1000"
    )
    return [job for job in map(job_of, rows) if (job.run_path / "result").is_dir()]


def tuned_job(found: Parts, name: str) -> Job | None:
    """The job that made a tuned model; its name is a key, never a path."""
    rows = found.jobs.store.read(
        "SELECT * FROM jobs WHERE model = ? AND deleted = 0 ORDER BY number DESC LIMIT 1", (name,)
    )
    return job_of(rows[0]) if rows else None


def known_model(found: Parts, name: str, *, param: str = "model", status: int = 400) -> str:
    """What the workers know a model by: a gallery name, a hub id, or the folder of a tuned one.

    Raises:
        ApiError: There is none of that name; similar ones are named.
    """
    if name.startswith("ft:"):
        return str(_tuned_folder(found, name, param, status))
    if name == "starter" or find_model(name) is not None:
        return name
    try:
        refuse_path("model", name, tuple(path.resolve() for path in (found.home, *found.roots)))
    except SettingsError as error:
        if "/" in name or "\\" in name:
            raise refusal(error, prefix="") from error
        raise _unknown(name, param, status) from error
    local = found.home / "models" / name
    if "/" not in name and not local.is_dir():
        raise _unknown(name, param, status)
    return name


def _tuned_folder(found: Parts, name: str, param: str, status: int) -> Path:
    match = _CHECKPOINT.fullmatch(name)
    job = tuned_job(found, match["model"] if match else name)
    if job is None:
        raise _unknown(name, param, status)
    folder = job.run_path
    if match is not None:
        folder = job.run_path / "checkpoints" / f"step-{int(match['step']):06d}"
    if not folder.is_dir():
        raise _unknown(name, param, status)
    return folder


def shown_model(found: Parts, job: Job) -> str:
    """The name of the model a job starts from, as it was asked for: never where it lies."""
    name = str(job.given.get("model", job.settings.get("model", "")))
    runs = found.home / "runs"
    if not name.startswith(f"{runs}/"):
        return name
    path = Path(name)
    step = path.name if path.parent.name == "checkpoints" else ""
    run = path.parents[1] if step else path
    rows = found.jobs.store.read(
        "SELECT model FROM jobs WHERE run_path = ? AND model IS NOT NULL"
        " ORDER BY number DESC LIMIT 1",
        (str(run),),
    )
    known = str(rows[0]["model"]) if rows else run.name
    return f"{known}:ckpt-{step}" if step else known


def _unknown(name: str, param: str, status: int) -> ApiError:
    near = nearest_names(name)
    return ApiError(
        status,
        f"there is no model {name[:120]!r}",
        code="model_not_found",
        param=param,
        why=f"similar names: {', '.join(near)}" if near else "",
        fix="GET /v1/models lists those at hand",
    )


def list_models(found: Parts) -> list[schemas.ModelObject]:
    """The starter model, models that were fetched or added, and tuned ones."""
    models = [model_object("starter", 0, kind="base", local=True)]
    folder = found.home / "models"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        if (folder / name / "config.json").is_file():
            created = (folder / name).stat().st_mtime
            models.append(model_object(name, created, kind="base", local=True))
    for job in tuned_jobs(found):
        assert job.model is not None
        models.append(tuned_object(found, job))
    return models


def tuned_object(found: Parts, job: Job) -> schemas.ModelObject:
    """The model of a finished job."""
    settings = job.settings
    return model_object(
        str(job.model),
        job.finished_at or job.created_at,
        kind="tuned",
        base=shown_model(found, job),
        job=job.id,
        method=settings.get("method"),
        objective=settings.get("objective"),
    )


def one_model(found: Parts, name: str) -> schemas.ModelObject:
    """A model by its name.

    Raises:
        ApiError: 404.
    """
    if name.startswith("ft:"):
        job = tuned_job(found, name)
        if job is None:
            raise _unknown(name, "model", 404)
        return tuned_object(found, job)
    for model in list_models(found):
        if model["id"] == name:
            return model
    gallery = find_model(name)
    if gallery is None:
        raise _unknown(name, "model", 404)
    return model_object(
        name, 0, kind="base", local=False, context=gallery.context, licence=gallery.licence
    )
