"""From a file and flags to settings, with where every value came from.

A flag wins over the file, the file over the default.  Every problem is found before anything is
refused, so that one look at the message is enough.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import yaml
from pydantic import ValidationError

from luthier.bounded import decode, decode_ours
from luthier.config import files, words
from luthier.config.files import Given
from luthier.config.names import ALIASES, FOREIGN, ForeignError, unused
from luthier.config.rules import idle
from luthier.config.settings import Settings
from luthier.errors import ConfigFileError, SettingsError

Layer = Literal["library", "gallery", "user"]

HIGH_LEARNING_RATE = 0.01
PLACEHOLDERS = {"model": "placeholder", "dataset": "placeholder"}
NEEDED = {"model": "--model starter", "dataset": "--dataset rows.jsonl"}
"""What every run needs, with an example."""


@dataclass(frozen=True)
class Resolved:
    """Settings, where each came from, and what has to be said about them."""

    settings: Settings
    provenance: dict[str, str]
    """Per setting: `default`, `run.yaml line 4`, `--lora_dim`, `alias r, run.yaml line 4`;
    `chosen: <reason>` once a value that was left open is decided, or `gallery <model>: <source>`
    where the card of the model decided it."""
    notices: list[str]
    config_text: str = field(default="", compare=False)
    """What was given, as a YAML file: the file itself with the flags as comments, or the flags."""

    def is_given(self, name: str) -> bool:
        """Whether somebody asked for this value."""
        return self.layer(name) == "user"

    def layer(self, name: str) -> Layer:
        """Which of the three layers of defaults a value came from; each wins over the one before."""
        source = self.provenance[name]
        if source.startswith("gallery "):
            return "gallery"
        return "library" if source.startswith(("default", "chosen: ")) else "user"

    def decided(self) -> dict[str, tuple[object, str]]:
        """What was left open and is decided: the value and its reason, as `fill` takes them."""
        return {
            name: (getattr(self.settings, name), source.removeprefix("chosen: "))
            for name, source in self.provenance.items()
            if source.startswith(("chosen: ", "gallery "))
        }

    def fill(self, **chosen: tuple[object, str]) -> Self:
        """The same with values decided for settings that were left open, each with its reason.

        A reason that begins with `gallery NAME: ` is that of a model's card.
        """
        values = self.settings.model_dump() | {name: value for name, (value, _) in chosen.items()}
        reasons = {
            name: reason if reason.startswith("gallery ") else f"chosen: {reason}"
            for name, (_, reason) in chosen.items()
        }
        provenance = self.provenance | reasons
        return type(self)(
            _validated(values, provenance), provenance, list(self.notices), self.config_text
        )

    def with_text(self, config_text: str) -> Self:
        """The same, with what was given as a YAML file."""
        return replace(self, config_text=config_text)

    def as_dict(self) -> dict[str, Any]:
        """What `settings.json` holds."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "provenance": dict(self.provenance),
            "notices": list(self.notices),
        }

    def to_json(self) -> str:
        """The text of `settings.json`."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Back from what `settings.json` holds.

        Raises:
            SettingsError: A value is missing or not allowed; a newer luthier may have written it.
        """
        try:
            provenance = {**saved["provenance"]}
            settings = _validated({**saved["settings"]}, provenance)
            return cls(settings, provenance, [*saved["notices"]])
        except (KeyError, TypeError, AttributeError, ValidationError) as error:
            raise SettingsError(
                f"these are not settings of a run: {str(error).splitlines()[0]}",
                why="settings.json holds settings, provenance and notices of this version",
                fix="start a new run from its config.yaml",
            ) from error


def _validated(values: Mapping[str, Any], provenance: Mapping[str, str]) -> Settings:
    free = ("default", "chosen: ", "gallery ")
    given = {name for name, source in provenance.items() if not source.startswith(free)}
    return Settings.model_validate(values, context={"given": given})


def load_saved(path: Path) -> Resolved:
    """The `settings.json` of a run."""
    try:
        return Resolved.from_dict(decode(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigFileError(
            f"{path} cannot be read: {error}", why="it holds the settings of a run"
        ) from error


def load(
    config: Path | Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
) -> Resolved:
    """Settings from a file or mapping, and what wins over it.

    Args:
        config: A YAML or JSON file, the `settings.json` of a run included, or a mapping.
        flags: Names to the words of a command line: text, a list of texts where a flag was repeated.
        arguments: Names to values as they are meant, from Python.

    Raises:
        ConfigFileError: The file cannot be read as a mapping of plain values.
        SettingsError: Every unknown name, bad value and contradiction, in one message.
    """
    text, source = "", "the command line" if flags else "the arguments"
    if isinstance(config, Mapping):
        given = _arguments(config)
    elif config is not None:
        text, source = files.read_text(config), str(config)
        given = files.read_given(config, text)
    else:
        given = []
    named = _arguments(arguments or {})
    flagged = [_flag(name, value) for name, value in (flags or {}).items()]

    problems: list[_Problem] = []
    notices: list[str] = []
    merged: dict[str, Given] = {}
    for layer in (given, named, flagged):  # each wins over the one before
        merged |= _translate(layer, problems, notices)
    settings = _settle(merged, problems, source)

    provenance = dict.fromkeys(Settings.model_fields, "default")
    provenance |= {name: origin.where for name, origin in merged.items()}
    blank = Settings.model_validate(PLACEHOLDERS)
    for name in Settings.model_fields:
        if name not in merged and getattr(settings, name) != getattr(blank, name):
            provenance[name] = "follows from the settings given"
    notices += idle(settings.__dict__, merged)
    if settings.learning_rate is not None and settings.learning_rate >= HIGH_LEARNING_RATE:
        notices.append(
            f"learning_rate: {settings.learning_rate:g} is very high; 1e-5 to 1e-3 is usual"
        )
    return Resolved(settings, provenance, notices, _as_yaml(text, given, [*named, *flagged]))


def _arguments(values: Mapping[str, object]) -> list[Given]:
    return [Given(str(name), value, f"argument {name}") for name, value in values.items()]


def _flag(name: str, value: object) -> Given:
    plain = words.value_of(ALIASES.get(name, name), value)
    return Given(name, plain, f"--{name}")


def _as_yaml(text: str, given: Iterable[Given], said: Iterable[Given]) -> str:
    if text:
        more = "".join(f"# {one.where} {json.dumps(one.value, default=str)}\n" for one in said)
        return text if not more else f"{text.rstrip()}\n# given besides this file:\n{more}"
    values = {one.name: one.value for one in [*given, *said]}
    return yaml.safe_dump(decode_ours(json.dumps(values, default=str)), sort_keys=False)


class _Problem(NamedTuple):
    """One thing that is wrong: the name with its value and place, and the rule."""

    what: str
    why: str
    name: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" if self.why else self.what


def _translate(
    given: Iterable[Given], problems: list[_Problem], notices: list[str]
) -> dict[str, Given]:
    """One source of settings, aliases and settings of other tools turned into ours."""
    found: dict[str, Given] = {}
    translated: dict[str, Given] = {}
    for one in given:
        name = ALIASES.get(one.name, one.name)
        if name in FOREIGN:
            _translate_foreign(one, translated, problems, notices)
        elif name not in Settings.model_fields:
            name = one.name if one.name.isprintable() else _shown(one.name)
            near = _nearest(name)
            guess = f", did you mean {near}?" if near else ""
            what = f"{name} is not a setting{guess} ({one.where})"
            fix = f"--{near} {one.value}" if near and isinstance(one.value, str | int) else ""
            problems.append(_Problem(what, "", fix=fix))
        elif name in found:
            what = f"{found[name].name} and {one.name} are both given ({one.where})"
            why = f"both names mean {name}"
            problems.append(_Problem(what, why, fix=f"keep {name} and leave out the other"))
        elif sentence := unused(name, one.value):
            notices.append(sentence)
        elif name != one.name:
            found[name] = Given(one.name, one.value, f"alias {one.name}, {one.where}")
            notices.append(f"{one.name} is read as {name}")
        else:
            found[name] = one
    for name, one in translated.items():
        if name in found:
            _compare(name, found[name], one, problems)
    return translated | found


def _translate_foreign(
    one: Given, found: dict[str, Given], problems: list[_Problem], notices: list[str]
) -> None:
    try:
        ours, sentence = FOREIGN[one.name](one.value)
    except ForeignError as refusal:
        problems.append(_Problem(f"{one.name}={_shown(one.value)} ({one.where})", str(refusal)))
        return
    notices.append(f"{one.name}: {sentence}")
    for name, value in ours.items():
        translated = Given(one.name, value, f"alias {one.name}, {one.where}")
        if name in found:
            _compare(name, found[name], translated, problems)
        found[name] = translated


def _compare(name: str, one: Given, other: Given, problems: list[_Problem]) -> None:
    """Two ways to say the same may both be given where they agree."""
    try:
        first, second = (
            Settings.model_validate({**PLACEHOLDERS, name: value})
            for value in (one.value, other.value)
        )
        agree = getattr(first, name) == getattr(second, name)
    except ValidationError:
        agree = one.value == other.value
    if not agree:
        what = f"{one.name}={_shown(one.value)} and {other.name} disagree ({other.where})"
        problems.append(_Problem(what, f"both decide {name}; keep one of them"))


def _nearest(name: str) -> str:
    known = [*Settings.model_fields, *ALIASES, *FOREIGN]
    close = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1, cutoff=0.6)
    return close[0] if close else ""


def _settle(merged: Mapping[str, Given], problems: list[_Problem], source: str) -> Settings:
    """The settings, or everything that is wrong with them in one error."""
    values = {name: one.value for name, one in merged.items()}
    settings, wrong = _attempt(values, merged)
    if settings is None and all(problem.name for problem in wrong):
        names = {problem.name for problem in wrong}
        rest = {name: value for name, value in values.items() if name not in names}
        wrong += _attempt({**PLACEHOLDERS, **rest}, merged)[1]  # contradictions among the others
    problems += wrong
    if problems or settings is None:
        raise _refusal(problems, source)
    return settings


def _attempt(
    values: Mapping[str, Any], merged: Mapping[str, Given]
) -> tuple[Settings | None, list[_Problem]]:
    try:
        return Settings.model_validate(values, context={"given": set(merged)}), []
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        problems: list[_Problem] = []
        for detail in error.errors(include_url=False):
            name = str(detail["loc"][0]) if detail["loc"] else ""
            message = detail["msg"].removeprefix("Value error, ")
            if not name:
                problems += [
                    _Problem(sentence, "", fix=_fix_of_pair(sentence))
                    for sentence in message.splitlines()
                ]
            elif detail["type"] == "missing":
                why = "every run needs one"
                problems.append(_Problem(f"{name} is not given", why, name, NEEDED[name]))
            else:
                found.setdefault(name, []).append(message)
        return None, problems + [_bad_value(name, said, merged) for name, said in found.items()]


def _bad_value(name: str, messages: list[str], merged: Mapping[str, Given]) -> _Problem:
    what = f"{name}={_shown(merged[name].value)} ({merged[name].where})"
    message = " or ".join(dict.fromkeys(messages)).replace("Input should", "should")
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    plain = isinstance(default, str | int | float)
    word = str(default).lower() if isinstance(default, bool) else default
    return _Problem(
        what,
        message,
        name,
        f"--{name} {word}" if plain else f"leave {name} out, or give such a value",
    )


def _fix_of_pair(sentence: str) -> str:
    """What helps against a contradiction, from how `rules.contradictions` words it."""
    if "exclude each other" in sentence:
        return "leave one of the two out"
    return f"give it, or leave {sentence.split()[0].rstrip(':')} out"


def _shown(value: object) -> str:
    """A value in one line of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refusal(problems: list[_Problem], source: str) -> SettingsError:
    fix = "luthier train --help lists every setting"
    if len(problems) == 1:
        return SettingsError(problems[0].what, why=problems[0].why, fix=problems[0].fix or fix)
    if all(problem.name in NEEDED and problem.fix == NEEDED[problem.name] for problem in problems):
        what = f"{' and '.join(problem.name for problem in problems)} are not given"
        return SettingsError(
            what, why="every run needs both", fix=f"luthier train {' '.join(NEEDED.values())}"
        )
    return SettingsError(
        f"{source}: {len(problems)} problems", why="; ".join(map(str, problems)), fix=fix
    )
