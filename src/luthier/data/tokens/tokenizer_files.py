"""What a tokenizer folder says: the tokenizer itself, special tokens, stop tokens, chat template.

Published folders spread this over five files that overlap and sometimes disagree; here is the one
place that knows which of them wins.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier import children
from luthier.children import Bounds
from luthier.data.tokens.shapes import problem_of
from luthier.durable import make_folders
from luthier.errors import TemplateError, TokenizerError
from luthier.reach import check_model_folder
from luthier.runs import home
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
_CONVERSION, _CONVERSION_S = Bounds(memory_bytes=8 * GIB, cpu_s=600), 600.0
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
    added = _read_json(folder / "added_tokens.json")
    try:
        definition = json.loads(raw)
        if problem := problem_of(definition, config, added):
            raise ValueError(problem)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(
            f"{folder / 'tokenizer.json'} is not a tokenizer: {error}",
            why="it must be JSON with `model` and `added_tokens`, and the files beside it of their format",
            fix="fetch the files again; their sizes should match the published ones",
        ) from error
    _add_missing(definition, config, folder)
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


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(
            f"{path} cannot be read: {error}",
            why="it must be a JSON object in UTF-8",
            fix="fetch the file again, or remove it if the model does without",
        ) from error
    return value if isinstance(value, dict) else {}


def _definition_bytes(folder: Path) -> bytes:
    path = folder / "tokenizer.json"
    if not path.is_file():
        path = _converted(folder)
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}") from error


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
    try:
        done = children.run(
            "luthier.data.tokens.convert",
            str(source),
            str(target),
            timeout_s=_CONVERSION_S,
            bounds=_CONVERSION,
        )
    except children.TooLateError:
        return f"it took more than {_CONVERSION_S:.0f} s"
    return (done.err.strip().splitlines() or ["no message"])[-1]


def cache_folder() -> Path:
    """Where converted tokenizers are kept: LUTHIER_HOME/cache/tokenizers."""
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
    named = dict(config.get("added_tokens_decoder") or {})
    for text, number in _read_json(folder / "added_tokens.json").items():
        named.setdefault(
            str(number), {"content": text, "special": bool(re.match(r"^<\|.*\|>$", text))}
        )
    for number, token in sorted(named.items(), key=lambda pair: int(pair[0])):
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
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(
            f"{path} cannot be read: {error}",
            why="a chat template is Jinja text in UTF-8",
            fix="fetch the file again, or give another: chat_template: FILE.jinja",
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
