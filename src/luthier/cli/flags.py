"""Every setting as a flag, made from the class of settings."""

import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic_core import PydanticUndefined

from luthier.cli.argv import normalise
from luthier.config.names import ALIASES, FOREIGN_BOOLEANS
from luthier.config.settings import GROUPS, Settings
from luthier.config.words import FLAGS, LISTS, MAPPINGS
from luthier.errors import UsageError

OTHER = "also"  # hidden option for names that are no setting: aliases, settings of other tools
SHOWN = frozenset(
    [
        "model",
        "method",
        "objective",
        "dataset",
        "columns",
        "eval_dataset",
        "eval_split",
        "system_prompt",
        "seq_length",
        "num_train_epochs",
        "per_device_train_batch_size",
        "learning_rate",
        "lora_dim",
        "load_in_4bit",
        "load_in_8bit",
        "output_dir",
        "resume",
    ]
)
"""Settings that `--help` shows; `--help-settings` shows all."""
OF_DATA = frozenset(
    [
        "model",
        "dataset",
        "columns",
        "encoding",
        "objective",
        "system_prompt",
        "chat_template",
        "train_on",
        "seq_length",
        "truncation",
    ]
)
"""Those that matter to a command that only looks at rows."""
_WORDS = {
    "share_prefixes": frozenset({"auto"}),
    "gradient_checkpointing": frozenset({"auto", "none", "full"}),
}


def normalise_settings(
    words: Sequence[str], *, switches: frozenset[str], own: frozenset[str] = frozenset()
) -> list[str]:
    """argv of a command that takes settings, in the one form that the parser gets.

    Names that are no setting are kept for `config.read`, which knows aliases and neighbours.
    """
    names = FLAGS | FOREIGN_BOOLEANS | {alias for alias, name in ALIASES.items() if name in FLAGS}
    booleans = {name: _WORDS.get(ALIASES.get(name, name), frozenset()) for name in names}
    result: list[str] = []
    flags = normalise(words, booleans=booleans, switches=switches | {"help"})
    for position, word in enumerate(flags):
        if word == "--":
            return result + flags[position:]
        name = word[2:].split("=", 1)[0]
        known = name in Settings.model_fields or name in own or "=" not in word
        result.append(word if known or not word.startswith("--") else f"--{OTHER}={word[2:]}")
    return result


def with_settings(
    command: Callable[..., None], shown: frozenset[str] = SHOWN
) -> Callable[..., None]:
    """Give a command every setting as a flag; those that were used arrive in `flags`.

    Args:
        shown: The settings that its `--help` lists; all others are listed by `--help-settings`.
    """

    def run(**given: Any) -> None:
        own = {name: given.pop(name) for name in own_names}
        del given["help_settings"]
        others = [word.split("=", 1) for word in given.pop(OTHER) or ()]
        said: dict[str, list[str]] = {name: texts for name, texts in given.items() if texts}
        for name, text in others:
            said.setdefault(name, []).append(text)
        command(**own, flags={name: _once(name, texts) for name, texts in said.items()})

    parameters = [p for p in inspect.signature(command).parameters.values() if p.name != "flags"]
    own_names = [parameter.name for parameter in parameters]
    titles = {first: title for title, first in GROUPS.items()}
    title = ""
    for name in Settings.model_fields:
        title = titles.get(name, title)
        spellings = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
        option = typer.Option(
            *spellings,
            help=f"[{title}] {help_text(name)}",
            hidden=name not in shown,
            show_default=False,
            metavar=metavar(name),
        )
        parameters.append(_parameter(name, option))
    parameters.append(_parameter(OTHER, typer.Option(f"--{OTHER}", hidden=True)))
    listing = typer.Option(
        "--help-settings",
        "--help_settings",
        callback=_list_settings,
        is_eager=True,
        help="Show every setting, by what it is for.",
    )
    parameters.append(
        inspect.Parameter(
            "help_settings",
            inspect.Parameter.KEYWORD_ONLY,
            default=False,
            annotation=Annotated[bool, listing],
        )
    )
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _list_settings(asked: bool) -> None:
    """Every setting under the heading of its group, and an end."""
    if not asked:
        return
    titles = {first: title for title, first in GROUPS.items()}
    for name in Settings.model_fields:
        if name in titles:
            typer.echo(f"\n{titles[name]}")
        for spelling in dict.fromkeys((name, name.replace("_", "-"))):
            typer.echo(f"  --{spelling} {metavar(name)}")
        typer.echo(
            textwrap.fill(help_text(name), 80, initial_indent=" " * 6, subsequent_indent=" " * 6)
        )
    raise typer.Exit


def _parameter(name: str, option: Any) -> inspect.Parameter:
    kind = Annotated[list[str] | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def metavar(name: str) -> str:
    """The words a setting takes, or what kind of value it is."""
    if name in FLAGS:
        return "[" + "|".join(["true", "false", *sorted(_WORDS.get(name, ()))]) + "]"
    if name in LISTS:
        return "A,B,..."
    if name in MAPPINGS:
        return "KEY=VALUE,..."
    words = _literals(Settings.model_fields[name].annotation)
    numbers = any(kind in (int, float) for kind in _parts(Settings.model_fields[name].annotation))
    return "|".join([*(["NUMBER"] if numbers else []), *words]) or "TEXT"


def _parts(annotation: object) -> list[object]:
    """A type and all it is made of."""
    return [annotation, *(part for inner in get_args(annotation) for part in _parts(inner))]


def _literals(annotation: object) -> list[str]:
    found = (get_args(part) for part in _parts(annotation) if get_origin(part) is Literal)
    return [word for words in found for word in words if isinstance(word, str)]


def default_text(name: str) -> str:
    """The default of a setting as one would write it; empty where nothing is the default."""
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    if default is PydanticUndefined or default in (None, (), {}):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def help_text(name: str, *, with_default: bool = True) -> str:
    """What a setting means and what it is when nobody gives it."""
    about = " ".join((Settings.model_fields[name].description or "").split())
    default = default_text(name)
    return f"{about}  Default: {default}." if default and with_default else about


def _once(name: str, texts: list[str]) -> str | list[str]:
    if ALIASES.get(name, name) in LISTS:
        return texts
    if len(texts) > 1:
        raise UsageError(
            f"--{name} is given {len(texts)} times: {', '.join(texts)}",
            why="only lists may be repeated",
            fix=f"--{name} {texts[-1]}",
        )
    return texts[0]
