"""From the words of a flag to the value of a setting.

Lists are separated by commas or repeated (those of sentences only repeated), mappings are `key=value` pairs or YAML in braces, `null`
is nothing; all else is left to the settings, which read `1e-4` and `true` by their own types.
"""

import types
from typing import Annotated, Union, get_args, get_origin

import yaml

from luthier.config import files
from luthier.config.settings import BOOLEANS, Settings
from luthier.errors import UsageError


def _kinds(name: str) -> tuple[object, ...]:
    annotation = Settings.model_fields[name].annotation
    union = get_origin(annotation) in (Union, types.UnionType)
    kinds = get_args(annotation) if union else (annotation,)
    return tuple(get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds)


def _is(name: str, kind: type) -> bool:
    return any(one is kind or get_origin(one) is kind for one in _kinds(name))


LISTS = frozenset(name for name in Settings.model_fields if _is(name, tuple))
TEXTS = frozenset({"sample_prompts"})
"""Lists of sentences, which have commas of their own: repeated, never separated."""

MAPPINGS = frozenset(name for name in Settings.model_fields if _is(name, dict))
OPTIONAL = frozenset(name for name in Settings.model_fields if type(None) in _kinds(name))
FLAGS = frozenset(BOOLEANS)
"""Settings that a flag without a value turns on."""


def value_of(name: str, given: object) -> object:
    """The value of setting `name` from what stood behind its flag.

    Args:
        name: A setting; words for anything else come back as they are.
        given: A text, a list of texts where the flag was repeated, or a value, which stays as it is.

    Raises:
        UsageError: A mapping that is none.
    """
    if name in LISTS and isinstance(given, str | list):
        texts = [given] if isinstance(given, str) else given
        if texts == ["null"] and name in OPTIONAL:
            return None
        if name in TEXTS:
            return texts
        return [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if not isinstance(given, str):
        return given
    if given == "null" and name in OPTIONAL:
        return None
    return _mapping(name, given) if name in MAPPINGS else given


def _mapping(name: str, text: str) -> object:
    try:
        if text.lstrip().startswith("{"):
            return files.plain(text)
        pairs = [part.split("=", 1) for part in text.split(",")]
        return {key.strip(): files.plain(value) for key, value in pairs}
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(
            f"--{name} {text} is not a mapping",
            why="it takes key=value pairs with commas between them, or YAML in braces",
            fix=f"--{name} '{{prompt: question, completion: answer}}'",
        ) from error
