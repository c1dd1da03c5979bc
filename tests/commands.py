"""Commands that are printed or documented, read by the real command line."""

import shlex
from functools import cache

import typer

from luthier.cli import main
from luthier.config import read
from luthier.config.settings import Settings


@cache
def application(asked):
    """The parser of one command."""
    return typer.main.get_command(main.build(asked))


def understood(line):
    """Parse a line up to the point where work would begin; settings are read too.

    Raises what the command line would say.
    """
    asked, words = main._arguments(shlex.split(line)[1:])
    app = application(asked)
    context = app.make_context("luthier", list(words), resilient_parsing=False)
    while True:
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)
        if not hasattr(command, "resolve_command"):
            break
    given = {n: v for n, v in context.params.items() if v and n in Settings.model_fields}
    flags = {name: value[0] if len(value) == 1 else list(value) for name, value in given.items()
             if isinstance(value, list | tuple)}  # fmt: skip
    if asked in ("train", "plan", "advise", "data") and context.params.get("config") is None:
        read.load({"model": "starter", "dataset": "rows.jsonl"}, flags)
    return asked
