"""`luthier chat`: talk to a run or a model."""

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from luthier.inference.dialogue import ChatSession

Name = Annotated[
    str,
    typer.Argument(help="A run, a model folder, an adapter, a gallery name.", show_default=False),
]
Prompt = Annotated[str | None, typer.Option(help="Answer this and end.", show_default=False)]
System = Annotated[
    str | None,
    typer.Option("--system", help="System text; else that of the training.", show_default=False),
]
Temperature = Annotated[float, typer.Option(help="0 takes the likeliest token, above 0 draws.")]
TopP = Annotated[float, typer.Option(help="Draw from the likeliest tokens of this total share.")]
MaxNew = Annotated[int, typer.Option("--max-new-tokens", help="Longest answer, in tokens.")]
Seed = Annotated[int, typer.Option(help="Of the draw; the same seed gives the same answer.")]
In4Bit = Annotated[bool, typer.Option("--load-in-4bit", help="Hold the base in 4 bits.")]
In8Bit = Annotated[bool, typer.Option("--load-in-8bit", help="Hold the base in 8 bits.")]

HELP = """/compare TEXT  what base and tuned model answer, side by side
/reset         forget the turns so far
/help          this list
/exit          end; Ctrl-D too"""


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command()(chat)


def chat(
    name: Name,
    prompt: Prompt = None,
    system: System = None,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNew = 512,
    seed: Seed = 0,
    load_in_4bit: In4Bit = False,
    load_in_8bit: In8Bit = False,
) -> None:
    """Talk to a run or a model; --prompt asks once."""
    from luthier.cli.drawing import render
    from luthier.inference.dialogue import Sampling
    from luthier.recipes.after.open_model import open_model

    opened = open_model(name, load_in_4bit=load_in_4bit, load_in_8bit=load_in_8bit)
    for notice in opened.notices:
        typer.echo(f"notice: {render.clean(notice)}", err=True)
    sampling = Sampling(max_new_tokens, temperature, top_p, seed)
    session = opened.chat(system_prompt=system, sampling=sampling)
    if prompt is not None:
        answer(session, prompt)
    else:
        typer.echo(f"{name}: /help lists what else can be typed, /exit ends", err=True)
        talk(session, _typed)


def _typed() -> str | None:
    """A line from the person; None at the end of input."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def talk(session: "ChatSession", ask: Callable[[], str | None]) -> None:
    """Answer every line until there is none."""
    while (text := ask()) is not None:
        word, _, rest = text.strip().partition(" ")
        if word in ("/exit", "/quit"):
            return
        if word == "/reset":
            session.reset()
        elif word == "/compare":
            compared(session, rest)
        elif word.startswith("/"):
            typer.echo(HELP)
        elif word:
            answer(session, text)


def answer(session: "ChatSession", text: str) -> None:
    """Stream the answer to one message; Ctrl-C ends the answer, not the dialogue."""
    from luthier.cli.drawing import render
    from luthier.errors import LuthierError

    try:
        _stream(session.send(text))
    except KeyboardInterrupt:
        sys.stdout.write(" ...\n")
    except LuthierError as error:
        if not sys.stdin.isatty():
            raise
        typer.echo(f"error: {render.clean(str(error))}", err=True)
    for notice in session.notices:
        typer.echo(f"notice: {render.clean(notice)}", err=True)


def _stream(pieces: Iterable[str]) -> None:
    from luthier.cli.drawing import render

    for piece in pieces:
        sys.stdout.write(render.clean(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def compared(session: "ChatSession", text: str) -> None:
    """Base and tuned answer to one message, side by side."""
    from luthier.cli.drawing import render

    if not text.strip():
        typer.echo("/compare TEXT")
        return
    both = session.compare(text)
    render.side_by_side(["base", "tuned"], [both.base, both.tuned])
