"""The entry point: the only place where an error becomes text and an exit status.

0 done, 1 our fault, 2 the user can put it right, 130 and 143 stopped with a checkpoint.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from luthier.cli.examples import add_examples
from luthier.errors import LuthierError
from luthier.surroundings import set_surroundings

COMMANDS = (
    "demo", "advise", "plan", "train", "chat", "compare", "eval", "export", "data", "gallery", "runs",
    "serve", "jobs", "doctor",
)  # fmt: skip
"""Modules of this package, one a command, each with `register(app, asked)`; in the order of help."""

PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
"""Threads that wait give their core away; spinning ones make a busy machine ten times slower."""

OUR_FAULT, THEIRS, INTERRUPTED = 1, 2, 130


def build(asked: str | None) -> typer.Typer:
    """The application; commands other than the one asked for are only named, so that it is quick."""
    app = typer.Typer(
        name="luthier",
        help="Fine-tune a language model on your data and your machine.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_version)
    for name in COMMANDS:
        import_module(f"luthier.cli.commands.{name}").register(app, asked)
    add_examples(app)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"luthier {version('luthier')}")
        raise typer.Exit


def _version(
    show: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Fine-tune a language model on your data and your machine."""


SWITCHES = frozenset({"json", "exact", "ignore_plan", "no_proof", "help_settings", "batches"})
"""Options of these commands that never take a value."""

TAKE_SETTINGS = {
    ("advise",): frozenset({"goal", "device", "lang", "output"}),
    ("train",): frozenset[str](),
    ("plan",): frozenset({"device"}),
    ("data", "check"): frozenset({"lang"}),
    ("data", "estimate"): frozenset[str](),
    ("data", "show"): frozenset({"row", "html"}),
    ("data", "fix"): frozenset({"output"}),
}
"""Commands whose flags are settings, with the options of their own that take a value."""


def _arguments(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The command asked for, and argv in the one form that the parser gets."""
    asked = next((word for word in words if not word.startswith("-")), None)
    for command, own in TAKE_SETTINGS.items():
        if tuple(words[: len(command)]) == command:
            from luthier.cli.flags import normalise_settings

            rest = normalise_settings(words[len(command) :], switches=SWITCHES, own=own)
            return asked, [*command, *rest]
    return asked, list(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    for name, value in PATIENT.items():
        os.environ.setdefault(name, value)
    set_surroundings()
    try:
        if words is None:
            _import_nothing_from_here()
        asked, arguments = _arguments(sys.argv[1:] if words is None else words)
        if asked in COMMANDS and "--help" not in arguments:
            _mend_home()
        build(asked)(arguments, prog_name="luthier")
    except LuthierError as error:
        _report(error)
        raise SystemExit(THEIRS) from None
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:  # `luthier runs list | head` wants no more of us
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:  # noqa: BLE001  the last line of defence: shown in full, never hidden
        traceback.print_exc()
        typer.secho(
            f"error: {type(error).__name__}: this is a fault of luthier, not yours",
            fg="red",
            err=True,
        )
        raise SystemExit(OUR_FAULT) from None


def _import_nothing_from_here() -> None:
    """The current folder may be anybody's: neither this process nor what it starts imports from it.

    `python -m luthier.cli.main` puts it first on the path, an empty entry of PYTHONPATH anywhere.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was removed, and nothing can be in it
        return
    sys.path[:] = [entry for entry in sys.path if entry not in ("", ".", here) or _is_ours(entry)]


def _mend_home() -> None:
    from luthier.runs import mend_home

    if notice := mend_home():
        typer.echo(f"notice: {notice}", err=True)


def _is_ours(entry: str) -> bool:
    """Whether this very code was imported from there: a checkout in which somebody works on it."""
    return os.path.realpath(__file__).startswith(
        os.path.join(os.path.realpath(entry), "luthier", "")
    )


def _report(error: LuthierError) -> None:
    from luthier.cli.drawing.render import clean

    typer.secho(f"error: {clean(str(error))}", fg=typer.colors.RED, err=True)


if __name__ == "__main__":
    main()
