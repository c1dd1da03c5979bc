"""What the files of a tokenizer must look like before anything is read out of them."""

from collections.abc import Mapping
from typing import Any

LISTS = ("additional_special_tokens", "extra_special_tokens")


def problem_of(
    definition: object, config: Mapping[str, Any], added: Mapping[str, Any]
) -> str | None:
    """The first thing that is of another shape than the format has; None if all is as it should be.

    Args:
        definition: The content of tokenizer.json.
        config: Of tokenizer_config.json.
        added: Of added_tokens.json.
    """
    if not isinstance(definition, Mapping) or not isinstance(definition.get("model"), Mapping):
        return "tokenizer.json has no object `model`"
    tokens = definition.get("added_tokens")
    if not isinstance(tokens, list):
        return "added_tokens of tokenizer.json is no list"
    for place, token in enumerate(tokens):
        if not (isinstance(token, Mapping) and _is_token(token)):
            return (
                f"added_tokens[{place}] of tokenizer.json is no token with id, content and special"
            )
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, Mapping):
        return "added_tokens_decoder of tokenizer_config.json is no object"
    for number, token in decoder.items():
        if not (str(number).isdecimal() and isinstance(token, Mapping)):
            return f"added_tokens_decoder of tokenizer_config.json has the entry {str(number)[:40]!r}, not id: token"
    for name in LISTS:
        if not isinstance(config.get(name) or [], list | Mapping):
            return f"{name} of tokenizer_config.json is no list"
    wrong = [text for text, number in added.items() if type(number) is not int or number < 0]
    return f"added_tokens.json gives {wrong[0][:40]!r} no id" if wrong else None


def _is_token(token: Mapping[str, object]) -> bool:
    return (
        isinstance(token.get("content"), str)
        and type(token.get("id")) is int
        and isinstance(token.get("special"), bool)
    )
