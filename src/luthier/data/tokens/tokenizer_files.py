"""What a tokenizer folder says: the tokenizer itself, special tokens, stop tokens, chat template.

Published folders spread this over five files that overlap and sometimes disagree; here is the one
place that knows which of them wins.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.bounded import decode, kind_of, read_bytes, read_object, shown, why_not
from luthier.data.tokens.shapes import problem_of
from luthier.durable import make_folders
from luthier.errors import TemplateError, TokenizerError
from luthier.limits import (
    ADDED_CHARS,
    ADDED_CHARS_TOGETHER,
    ADDED_TOKENS,
    TEMPLATE_BYTES,
    TOKEN_ID,
    TOKENIZER_BYTES,
)
from luthier.reach import check_model_folder
from luthier.units import GIB

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
SOURCES = ("tokenizer.model", "tokenizer.model.v3", "tokenizer.model.v1", "vocab.json")
"""Files a tokenizer.json can be made from; `*.tiktoken` is looked for too."""

_USUAL_ROLES = (
    {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"},
    {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
)
"""For a vocabulary that comes alone, without a config that says which token is which."""

_SIDE_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_CONVERSION_BYTES, _CONVERSION_S = 8 * GIB, 600
ADDITIONAL = "additional_chat_templates"
"""Folder of templates beside the default one, each NAME.jinja."""
_FORMATS_OF_CONVERTER = 1  # part of the cache key: raise when convert.py writes something else


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The parts of one folder, read and reconciled.

    `definition` is tokenizer.json as an object; `roles` maps bos_token, eos_token, pad_token and
    unk_token to their text; `stops` are the ids that end generation by generation_config.json;
    `other_templates` are those beside the default one, such as `tool_use`, by name.
    """

    definition: dict[str, Any]
    config: dict[str, Any]
    roles: dict[str, str]
    stops: tuple[int, ...]
    chat_template: str | None
    fingerprint: str
    other_templates: Mapping[str, str] = field(default_factory=dict)


def read_files(folder: Path) -> TokenizerFiles:
    """Read a tokenizer folder; converts and caches one that has no tokenizer.json.

    Raises:
        TokenizerError: No tokenizer there, or a file of it is damaged.
    """
    if folder.is_dir():
        check_model_folder(folder)
    config = _read_json(folder / "tokenizer_config.json")
    raw = _definition_bytes(folder)
    definition = _definition(raw, folder)
    if problem := problem_of(definition, config, _read_json(folder / "added_tokens.json")):
        raise _no_tokenizer(folder, problem)
    _add_missing(definition, config, folder)
    if problem := too_much(token["content"] for token in definition["added_tokens"]):
        raise _no_tokenizer(folder, problem)
    _place_ids(definition)
    roles = _roles(config, _read_json(folder / "special_tokens_map.json"), definition)
    templates = _chat_templates(folder, config)
    template = templates.pop("default", None)
    digest = hashlib.sha256(raw)
    digest.update(json.dumps([config, roles, template], sort_keys=True).encode())
    if templates and (folder / ADDITIONAL).exists():
        digest.update(json.dumps(templates, sort_keys=True).encode())
    generation = _read_json(folder / "generation_config.json")
    return TokenizerFiles(
        definition, config, roles, _stops(generation), template, digest.hexdigest(), templates
    )


def _definition(raw: bytes, folder: Path) -> dict[str, Any]:
    """tokenizer.json as an object, its added tokens within limits."""
    try:
        definition = decode(raw, same_twice=True)
        problem = _problem(definition)
    except ValueError as error:
        problem = why_not(error)
    if problem:
        raise _no_tokenizer(folder, problem)
    return dict(definition)


def _no_tokenizer(folder: Path, problem: str) -> TokenizerError:
    return TokenizerError(
        f"{folder / 'tokenizer.json'} is not a tokenizer: {problem}",
        why="it must be JSON with `model` and `added_tokens`",
        fix="fetch the file again; its size should match the published one",
    )


def _problem(definition: object) -> str:
    """What is wrong with the kinds of a tokenizer's parts; empty if nothing is."""
    if not isinstance(definition, dict):
        return f"it is {kind_of(definition)}"
    if missing := {"model", "added_tokens"} - definition.keys():
        return f"it has no {min(missing)}"
    if not isinstance(definition["model"], dict):
        return f"model is {kind_of(definition['model'])}, an object is needed"
    added = definition["added_tokens"]
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        return f"added_tokens is {shown(added)}, a list of objects is needed"
    for token in added:
        token.setdefault("special", False)
        if not (isinstance(token.get("content"), str) and token["content"]):
            return f"the added token {shown(token)} has no content"
        if not (_is_id(token.get("id")) and isinstance(token["special"], bool)):
            return f"the added token {shown(token)} has no id, or special is neither true nor false"
    if problem := too_much(token["content"] for token in added):
        return problem
    vocabulary = definition["model"].get("vocab")
    if isinstance(vocabulary, dict):
        wrong = next((text for text, number in vocabulary.items() if not _is_id(number)), None)
        if wrong is not None:
            return f"the vocabulary gives {shown(wrong)} the id {shown(vocabulary[wrong])}"
    return ""


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= TOKEN_ID


def too_much(texts: Iterable[str]) -> str:
    """What is wrong with the number or the length of added tokens; empty if nothing is."""
    count = together = 0
    for text in texts:
        count, together = count + 1, together + len(text)
        if len(text) > ADDED_CHARS:
            return f"an added token has {len(text):,} characters; at most {ADDED_CHARS} are read"
        if count > ADDED_TOKENS or together > ADDED_CHARS_TOGETHER:
            return (
                f"there are more than {ADDED_TOKENS:,} added tokens, "
                f"or {ADDED_CHARS_TOGETHER:,} characters in them"
            )
    return ""


def _read_json(path: Path) -> dict[str, Any]:
    def refuse(why: str) -> TokenizerError:
        return TokenizerError(
            f"{path} cannot be read: {why}",
            why="it must be a JSON object in UTF-8",
            fix="fetch the file again, or remove it if the model does without",
        )

    try:
        return read_object(path, refuse, same_twice=True)
    except FileNotFoundError:
        return {}


def _definition_bytes(folder: Path) -> bytes:
    path = folder / "tokenizer.json"
    if not path.is_file():
        path = _converted(folder)
    try:
        return read_bytes(path, TOKENIZER_BYTES)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise TokenizerError(f"{path} cannot be read: {error}") from error


def _converted(folder: Path) -> Path:
    """The cached conversion of a folder without tokenizer.json, made now if it is not there."""
    source = next((folder / name for name in SOURCES if (folder / name).is_file()), None)
    source = source or next(iter(sorted(folder.glob("*.tiktoken"))), None)
    if source is None:
        raise TokenizerError(
            f"{folder} holds no tokenizer",
            why="luthier reads tokenizer.json, or converts tokenizer.model, *.tiktoken, "
            "or vocab.json with merges.txt",
            fix="copy the tokenizer files of the model into this folder",
        )
    digest = hashlib.sha256(f"{_FORMATS_OF_CONVERTER} {source.name}".encode())
    for path in (source, *(folder / name for name in _SIDE_FILES)):
        if path.is_file():
            digest.update(path.read_bytes())
    target = cache_folder() / f"{digest.hexdigest()[:32]}.json"
    if not target.is_file():
        make_folders(target.parent)
        problem = _convert(source.absolute(), target)
        if not target.is_file():
            raise TokenizerError(
                f"{source} cannot be turned into a tokenizer.json: {problem}",
                why="it is neither a SentencePiece model, nor tiktoken ranks, nor a byte-level BPE",
                fix=f"python -m luthier.data.tokens.convert {source} {folder / 'tokenizer.json'}",
            )
    return target


def _convert(source: Path, target: Path) -> str:
    """Convert in a process of its own; its last word, which says why where there is no target."""
    from luthier import children  # here: most folders need no conversion, and it takes long to load

    try:
        done = children.run(
            "luthier.data.tokens.convert",
            str(source),
            str(target),
            timeout_s=_CONVERSION_S,
            bounds=children.Bounds(memory_bytes=_CONVERSION_BYTES, cpu_s=_CONVERSION_S),
        )
    except children.TooLateError:
        return f"it took more than {_CONVERSION_S} s"
    return (done.err.strip().splitlines() or ["no message"])[-1]


def cache_folder() -> Path:
    """Where converted tokenizers are kept: LUTHIER_HOME/cache/tokenizers."""
    from luthier.runs import home  # here for the same reason

    return home() / "cache" / "tokenizers"


def token_text(value: object) -> str | None:
    """The text of a token given as a string or as an AddedToken object."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _roles(
    config: Mapping[str, Any], special_map: Mapping[str, Any], definition: Mapping[str, Any]
) -> dict[str, str]:
    roles: dict[str, str] = {}
    for role in ROLES:
        # An explicit null in the config (Qwen: no BOS) is an answer, not a gap to be filled.
        value = config[role] if role in config else special_map.get(role)
        if text := token_text(value):
            roles[role] = text
    if not any(role in config or role in special_map for role in ROLES):
        have = {token["content"] for token in definition["added_tokens"]}
        known = next((names for names in _USUAL_ROLES if have.issuperset(names.values())), {})
        roles |= known
    return roles


def _add_missing(definition: dict[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    """Added tokens that only tokenizer_config.json or added_tokens.json name."""
    have = {token["content"] for token in definition["added_tokens"]}
    place = folder / "tokenizer_config.json"
    decoder = config.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise _bad_added(place, f"added_tokens_decoder is {kind_of(decoder)}")
    named = dict(decoder)
    for text, number in _read_json(folder / "added_tokens.json").items():
        named.setdefault(
            str(number), {"content": text, "special": bool(re.match(r"^<\|.*\|>$", text))}
        )
    if wrong := [key for key in named if not (key.isdecimal() and _is_id(int(key[:20])))]:
        raise _bad_added(place, f"an added token has the id {shown(wrong[0])}")
    for number, token in sorted(named.items(), key=lambda pair: int(pair[0])):
        token = token if isinstance(token, dict) else {"content": token}
        text = token_text(token) or ""
        if not text or text in have:
            continue
        flags = {name: bool(token.get(name, False)) for name in ("single_word", "lstrip", "rstrip")}
        special = bool(token.get("special", False))
        normalized = bool(token.get("normalized", not special))
        definition["added_tokens"].append(
            {
                "id": int(number),
                "content": text,
                "special": special,
                "normalized": normalized,
                **flags,
            }
        )


def _bad_added(place: Path, problem: str) -> TokenizerError:
    return TokenizerError(
        f"{place} cannot be used: {problem}",
        why=f"added_tokens_decoder maps ids, 0 to {TOKEN_ID:,}, to objects with a content",
        fix="fetch the file again",
    )


def _place_ids(definition: dict[str, Any]) -> None:
    """Give added tokens the ids they are published with.

    The tokenizers package counts them up from the end of the vocabulary whatever their `id` says;
    where that differs (Phi-4 leaves a gap), the token is put into the vocabulary itself.
    """
    vocabulary = definition["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        return
    outside = [token for token in definition["added_tokens"] if token["content"] not in vocabulary]
    ids = [token["id"] for token in outside]
    if ids != list(range(len(vocabulary), len(vocabulary) + len(ids))):
        vocabulary.update({token["content"]: token["id"] for token in outside})


def _stops(generation: Mapping[str, Any]) -> tuple[int, ...]:
    value = generation.get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return tuple(item for item in values if isinstance(item, int) and not isinstance(item, bool))


def _template_text(path: Path) -> str:
    try:
        return read_bytes(path, TEMPLATE_BYTES).decode()
    except (OSError, ValueError) as error:
        raise TemplateError(
            f"{path} cannot be read: {error}",
            why=f"a chat template is UTF-8, at most {TEMPLATE_BYTES:,} bytes",
            fix="fetch the file again, or: chat_template: FILE.jinja",
        ) from error


def _chat_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Every chat template by name; the usual one is `default`."""
    named: dict[str, str] = {}
    value = _read_json(folder / "chat_template.json").get(
        "chat_template", config.get("chat_template")
    )
    if isinstance(value, str):
        named["default"] = value
    for item in value if isinstance(value, list) else ():
        name, text = (
            (item.get("name"), item.get("template")) if isinstance(item, Mapping) else (None, None)
        )
        if isinstance(name, str) and isinstance(text, str):
            named[name] = text
    for path in sorted((folder / ADDITIONAL).glob("*.jinja")):
        named[path.stem] = _template_text(path)
    path = folder / "chat_template.jinja"
    if path.is_file():
        named["default"] = _template_text(path)
    if named and "default" not in named:
        raise TemplateError(
            f"{folder} has chat templates named {', '.join(named)}, and no `default`",
            why="one template must be chosen for training and chat alike",
            fix="chat_template: FILE.jinja with the template you want",
        )
    return named
