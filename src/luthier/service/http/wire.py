"""OpenAI's objects, made from ours.  What its schema lacks is in one key, `luthier`.

Source: openai-python 3.54.0, whose strict validation the tests run against.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from luthier.bounded import decode
from luthier.config.defaults import Method, Objective, learning_rate_default
from luthier.json_values import JsonObject, number_of, object_of, whole_of
from luthier.service.files import File
from luthier.service.http import schemas
from luthier.service.http.live.history import History
from luthier.service.records import Job
from luthier.service.states import State

WIRE_STATE: Mapping[State, schemas.WireState] = {
    "created": "validating_files",
    "queued": "queued",
    "starting": "running",
    "running": "running",
    "saving": "running",
    "pausing": "pausing",
    "paused": "paused",
    "finished": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
WIRE_ERROR = {
    "E300": "insufficient_gpu_memory",
    "E301": "cuda_out_of_memory",
    "E302": "disk_full",
    "E401": "model_not_found",
    "E504": "loss_diverged",
}
SHOWN = 300
"""Characters of a text among the settings in a list of jobs; one job alone has all of it."""

RETURNED_PURPOSES = {"evals": "user_data"}
"""Purposes that may be sent but not returned."""


def file_object(file: File) -> schemas.FileObject:
    """An uploaded file."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": RETURNED_PURPOSES.get(file.purpose, file.purpose),
        "status": "processed",
        "expires_at": None,
        "status_details": None,
        "luthier": {
            "sha256": file.sha256,
            **({"columns": dict(file.columns)} if file.columns else {}),
        },
    }


def page(
    data: Sequence[schemas.Item], has_more: bool, *, empty_ends: bool = False
) -> schemas.ListPage[schemas.Item]:
    """One page of a list.

    Args:
        empty_ends: Whether an empty page says that it has no ends.
    """
    made: schemas.ListPage[schemas.Item] = {"object": "list", "data": data, "has_more": has_more}
    if data or empty_ends:
        made["first_id"] = data[0]["id"] if data else None
        made["last_id"] = data[-1]["id"] if data else None
    return made


def job_object(
    job: Job,
    history: History | None,
    *,
    model: str,
    file_ids: tuple[str, ...],
    result_files: list[str],
) -> schemas.FineTuningJob:
    """A fine-tuning job.

    Args:
        model: What it starts from, as it was asked for.
        history: What its run has written; None where that is not looked up.
        file_ids: Uploaded files it reads.
        result_files: Files that hold its figures.
    """
    settings, provenance, resolved = resolved_settings(job)
    training, validation = _files(job, file_ids)
    hyperparameters = _hyperparameters(settings, resolved)
    kind = "dpo" if settings.get("objective") == "dpo" else "supervised"
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": int(job.created_at),
        "finished_at": int(job.finished_at) if job.finished_at is not None else None,
        "model": model,
        "fine_tuned_model": job.model,
        "organization_id": "org-local",
        "status": WIRE_STATE[job.state],
        "training_file": training,
        "validation_file": validation,
        "hyperparameters": {} if kind == "dpo" else hyperparameters,
        "method": {"type": kind, kind: {"hyperparameters": hyperparameters}},
        "seed": whole_of(settings.get("seed")) or 0,
        "result_files": result_files,
        "trained_tokens": history.trained_tokens if history and history.trained_tokens else None,
        "estimated_finish": _estimated(job, history),
        "error": _error(job),
        "integrations": None,
        "metadata": dict(job.metadata) or None,
        "luthier": {
            "name": job.name,
            "state": job.state,
            "priority": job.priority,
            "attempts": job.attempts,
            "retries": job.retries,
            "devices": list(job.devices),
            "run": job.run_path.name,
            "settings": {**settings, "model": model},
            "provenance": provenance,
        },
    }


def shortened(settings: schemas.Free) -> schemas.Free:
    """Settings as a list of jobs shows them: of a long text its beginning and its length."""
    return {
        name: f"{value[:SHOWN]}... ({len(value):,} characters)"
        if isinstance(value, str) and len(value) > SHOWN
        else value
        for name, value in settings.items()
    }


def _error(job: Job) -> schemas.JobError | None:
    if job.state != "failed" or job.error is None:
        return None
    code = str(job.error.get("code", "failed"))
    return {
        "code": WIRE_ERROR.get(code, code),
        "message": str(job.error.get("what", "")) or "the run failed",
        "param": None,
        "why": job.error.get("why", ""),
        "fix": job.error.get("fix", ""),
    }


def resolved_settings(job: Job) -> tuple[dict[str, object], dict[str, str], bool]:
    """Settings and where each came from: those of the run once it has planned, and whether it has."""
    saved = read_json(job.run_path / "settings.json")
    settings, provenance = dict(job.settings), dict(job.provenance)
    planned = False
    if own := object_of(saved.get("settings")):
        settings = dict(own)
        provenance = {
            name: str(from_) for name, from_ in object_of(saved.get("provenance")).items()
        }
        planned = True
    given = job.given
    for name in ("dataset", "eval_dataset"):  # file ids, not where the server keeps them
        if name in given:
            value = given[name]
            settings[name] = [value] if isinstance(value, str) else value
    return settings, provenance, planned


def read_json(path: Path) -> JsonObject:
    """An object from a file of a run; empty where there is none yet."""
    try:
        value = decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _hyperparameters(settings: Mapping[str, object], planned: bool) -> dict[str, object]:
    """OpenAI's few, `auto` until the plan has numbers; its schema knows whole epochs only."""
    epochs, size = settings.get("num_train_epochs"), settings.get("per_device_train_batch_size")
    rate = settings.get("learning_rate")
    rounds = 1
    for name in ("gradient_accumulation_steps", "devices"):
        rounds *= whole_of(settings.get(name)) or 1
    found: dict[str, object] = {
        "n_epochs": max(1, math.ceil(epochs)) if isinstance(epochs, int | float) else "auto",
        "batch_size": size * rounds if isinstance(size, int) else "auto",
        "learning_rate_multiplier": "auto",
    }
    if isinstance(rate, int | float):
        base = base_rate(settings)
        found["learning_rate_multiplier"] = round(rate / base, 6)
    if settings.get("objective") == "dpo":
        found["beta"] = settings.get("dpo_beta", "auto")
    return found


def base_rate(settings: Mapping[str, object]) -> float:
    """What `learning_rate_multiplier` multiplies: the default of method and objective."""
    method: Method = "full" if settings.get("method") == "full" else "lora"
    objective: Objective = "dpo" if settings.get("objective") == "dpo" else "sft"
    return learning_rate_default(method, objective)[0]


def _files(job: Job, file_ids: tuple[str, ...]) -> tuple[str, str | None]:
    def of(name: str) -> list[str]:
        value = job.given.get(name) or []
        many = value if isinstance(value, list | tuple) else [value]
        return [str(one) for one in many]

    training = next(iter(of("dataset")), "") or next(iter(file_ids), "")
    return training, next(iter(of("eval_dataset")), None)


def _estimated(job: Job, history: History | None) -> int | None:
    if history is None or job.ended or not history.last_step:
        return None
    left, moment = history.last_step.get("eta_s"), history.last_step.get("time")
    if isinstance(left, int | float) and isinstance(moment, int | float):
        return int(moment + left)
    return None


def model_object(name: str, created: float, **more: object) -> schemas.ModelObject:
    """A base or tuned model as OpenAI lists it; what its schema lacks is in `luthier`."""
    owner = "local" if name.startswith("ft:") else "gallery"
    made: schemas.ModelObject = {
        "id": name,
        "object": "model",
        "created": int(created),
        "owned_by": owner,
    }
    if more:
        made["luthier"] = more
    return made


def checkpoint_object(job: Job, event: JsonObject, history: History) -> schemas.Checkpoint:
    """A checkpoint of a job, with the held-out figures of its step."""
    step = whole_of(event.get("step")) or 0
    evaluated = next(
        (
            object_of(one.get("metrics"))
            for one in history.events
            if one.get("type") == "evaluated" and one.get("step") == step
        ),
        {},
    )
    metrics: dict[str, float] = {"step": float(step)}
    for ours, theirs in (("loss", "valid_loss"), ("accuracy", "valid_mean_token_accuracy")):
        value = evaluated.get(ours)
        if isinstance(value, int | float):
            metrics[theirs] = metrics[f"full_{theirs}"] = float(value)
    name = job.model or f"ft:{job.given.get('model', 'model')}:local::{job.id[-8:]}"
    return {
        "id": f"ftckpt_{job.id.removeprefix('ftjob-')}_{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(number_of(event.get("time")) or 0),
        "fine_tuned_model_checkpoint": f"{name}:ckpt-step-{step}",
        "fine_tuning_job_id": job.id,
        "step_number": step,
        "metrics": metrics,
        "luthier": {"bytes": event.get("bytes"), "name": Path(str(event.get("path", ""))).name},
    }
