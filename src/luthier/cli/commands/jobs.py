"""`luthier jobs`: what the service has to do, from a terminal; a client of its HTTP API."""

from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli.options import AsJson

JobId = Annotated[
    str, typer.Argument(help="Id of a job, or its last characters.", show_default=False)
]
Url = Annotated[
    str | None, typer.Option(help="Address of the server; default: the one of this user.")
]

jobs = typer.Typer(
    help="List, submit, follow and stop jobs of the service.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the commands."""
    app.add_typer(jobs, name="jobs")


def _client(url: str | None) -> Any:
    from luthier.cli.client import ServiceClient

    return ServiceClient(url)


def _found(client: Any, job: str) -> str:
    """The full id of a job that was named by its end."""
    from luthier.errors import UsageError

    if job.startswith("ftjob-"):
        return job
    ids = [one["id"] for one in client.get("/api/jobs?limit=500")["jobs"]]
    matching = [id for id in ids if id.endswith(job)]
    if len(matching) != 1:
        raise UsageError(
            f"{job!r} is the end of {len(matching)} job ids",
            why="it must be that of exactly one",
            fix="luthier jobs list",
        )
    return str(matching[0])


def _brief(job: dict[str, Any]) -> dict[str, Any]:
    """What people look for in a job, its moments as local time."""
    from datetime import datetime

    hidden = ("metadata", "managed", "wish")
    shown = {name: value for name, value in job.items() if name not in hidden and value}
    for name, value in shown.items():
        if name.endswith("_at") and isinstance(value, int | float):
            shown[name] = datetime.fromtimestamp(value).astimezone().isoformat(" ", "seconds")
    return shown


@jobs.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only these, with commas between.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Jobs, newest first."""
    from urllib.parse import quote

    from luthier.cli.drawing import render

    query = f"&state={quote(state)}" if state else ""
    found = _client(url).get(f"/api/jobs?limit=100{query}")["jobs"]
    names = ("id", "name", "state", "base", "method", "objective", "priority", "model")
    rows = found if as_json else [{name: one.get(name) or None for name in names} for one in found]
    render.table(rows, as_json=as_json, empty="no jobs; luthier jobs submit run.yaml makes one")


@jobs.command()
def show(job: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Where a job stands, and what it was asked to do."""
    from luthier.cli.client import path_of
    from luthier.cli.drawing import render

    client = _client(url)
    found = client.get(path_of("jobs", _found(client, job)))
    if as_json:
        render.dump(found)
        return
    brief = _brief(found["job"])
    progress = {name: value for name, value in found["progress"].items() if value is not None}
    given = {name: value for name, value in found["given"].items() if value is not None}
    render.facts({**brief, "asked for": given, "progress": progress}, as_json=False)


@jobs.command()
def submit(
    config: Annotated[Path, typer.Argument(help="YAML file of settings.", show_default=False)],
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload the data that a config names, and queue the run."""
    from luthier.cli.drawing import render
    from luthier.config import files

    client = _client(url)
    settings = {one.name: one.value for one in files.read_given(config, files.read_text(config))}
    for key in ("dataset", "eval_dataset"):
        if key in settings:
            given = settings[key]
            many = given if isinstance(given, list | tuple) else [given]
            settings[key] = [_uploaded(client, config.parent, str(one)) for one in many]
    body = {"settings": settings, "name": name, "priority": priority}
    made = client.post("/api/jobs", body)
    if as_json:
        render.dump(made)
    else:
        render.line(f"{made['id']} is {made['state']}")
        render.line(f"follow it:  luthier jobs follow {made['id'][-8:]}")


def _uploaded(client: Any, folder: Path, name: str) -> str:
    """The id of a data file, uploaded if it lies here."""
    if name.startswith("file-"):
        return name
    for path in (Path(name).expanduser(), folder / name):
        if path.is_file():
            return str(client.upload(path)["id"])
    return name


def _act(job: str, action: str, url: str | None, as_json: bool) -> None:
    from luthier.cli.client import path_of
    from luthier.cli.drawing import render

    client = _client(url)
    made = client.post(path_of("jobs", _found(client, job), action))
    if as_json:
        render.dump(made)
        return
    wish = f", {made['wish']} was asked for" if made.get("wish") else ""
    render.line(f"{made['id']} is {made['state']}{wish}")


@jobs.command()
def cancel(job: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Stop a job for good."""
    _act(job, "cancel", url, as_json)


@jobs.command()
def pause(job: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Save a checkpoint and give the device back."""
    _act(job, "pause", url, as_json)


@jobs.command()
def resume(job: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Go on with a paused job."""
    _act(job, "resume", url, as_json)


@jobs.command()
def retry(job: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Go on with a job that failed or was cancelled, as a new job."""
    _act(job, "retry", url, as_json)


@jobs.command()
def clone(job: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Queue the same again."""
    _act(job, "clone", url, as_json)


@jobs.command()
def follow(job: JobId, url: Url = None, as_json: AsJson = False) -> None:
    """Events of a job as they come, until it ends; Ctrl-C stops watching, not the job."""
    from luthier.cli.client import path_of
    from luthier.cli.drawing.watcher import RunDisplay

    client = _client(url)
    path = path_of("jobs", _found(client, job), "stream")
    with RunDisplay(as_json=as_json) as watcher:
        for name, data in client.follow(path):
            if name == "state" and not as_json:
                watcher.say(f"{data['id']} is {data['state']}")
            elif name != "monitor":
                watcher.on_event({"type": name, **data})


@jobs.command()
def logs(
    job: JobId,
    url: Url = None,
    lines: Annotated[int, typer.Option(min=1, help="How many of the last.")] = 100,
) -> None:
    """The last lines that the process of a job printed."""
    from luthier.cli.client import path_of
    from luthier.cli.drawing import render

    client = _client(url)
    found = client.get(path_of("jobs", _found(client, job), "logs") + "?after=-262144&limit=262144")
    for line in found["text"].splitlines()[-lines:]:
        render.line(line)
