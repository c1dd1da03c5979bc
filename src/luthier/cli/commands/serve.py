"""`luthier serve`: jobs, monitoring, chat and the page, on this machine."""

from pathlib import Path
from typing import Annotated

import typer

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any.")]
Remote = Annotated[
    bool, typer.Option("--remote", help="Allow a host that other machines can reach.")
]
AllowHost = Annotated[
    list[str] | None, typer.Option(help="A further name of this machine, as a browser is told it.")
]
AllowFolder = Annotated[
    list[Path] | None,
    typer.Option(help="A folder that jobs may name by path, besides uploaded files."),
]
Unix = Annotated[Path | None, typer.Option(help="Listen on this socket instead.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")]
ShowToken = Annotated[bool, typer.Option("--show-token", help="Print the token and end.")]
RotateToken = Annotated[
    bool, typer.Option("--rotate-token", help="Make a new token, print it and end.")
]
AccessLog = Annotated[
    bool, typer.Option("--access-log", help="A line for each request, without its query.")
]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8080,
    remote: Remote = False,
    allow_host: AllowHost = None,
    allow_folder: AllowFolder = None,
    unix: Unix = None,
    no_browser: NoBrowser = False,
    show_token: ShowToken = False,
    rotate_token: RotateToken = False,
    access_log: AccessLog = False,
) -> None:
    """Serve jobs, monitoring, chat and the OpenAI-style API; Ctrl-C ends it, jobs go on."""
    from luthier.cli.extras import require_serve
    from luthier.runs import home

    require_serve()
    from luthier.service.http import serving
    from luthier.service.http.door import credentials

    if show_token or rotate_token:
        make = credentials.new_token if rotate_token else credentials.load_token
        typer.echo(make(home()))
        return
    _log(access_log)
    options = serving.Options(
        host=host,
        port=port,
        remote=remote,
        names=tuple(allow_host or ()),
        roots=tuple(path.expanduser().absolute() for path in allow_folder or ()),
        unix=unix,
    )

    def ready(address: str, link: str) -> None:
        if remote:
            typer.secho(
                f"warning: {address} can be reached from other machines, and is not encrypted",
                fg="yellow",
                err=True,
            )
        typer.echo(f"luthier serves at {address}")
        if unix is None:
            typer.echo(f"log in once with   {link}")
            typer.echo(f'programs use       OpenAI(base_url="{address}/v1", api_key=TOKEN)')
        typer.echo("the token          luthier serve --show-token")
        if not no_browser and unix is None:
            _open(link)

    serving.serve(options, ready=ready)


def _open(link: str) -> None:
    """Show the page where there is a screen."""
    import os
    import sys
    import threading
    import webbrowser

    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()


def _log(access: bool) -> None:
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("luthier").setLevel(logging.INFO if access else logging.WARNING)
