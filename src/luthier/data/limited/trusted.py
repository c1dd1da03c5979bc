"""What may run in the process that needs it: templates that ship with luthier, and plain tokenizers.

A template of ours is text we have read.  A tokenizer is plain if it is made of parts whose output is
no longer than a small multiple of their input and whose patterns are known to end in linear time;
what is not on these lists is not called bad, it runs in a child.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from luthier.bounded import decode
from luthier.data.rendering.template import CHATML, TemplateText

_NORMALIZERS = frozenset({"NFC", "NFD", "Lowercase", "Strip", "StripAccents", "BertNormalizer"})
_SPLITTERS = frozenset({
    "ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit", "BertPreTokenizer", "Digits", "Punctuation",
})  # fmt: skip
_DECODERS = frozenset({"ByteLevel", "Metaspace", "ByteFallback", "Fuse", "Strip", "WordPiece"})
_LISTS = {"Sequence": ("normalizers", "pretokenizers", "decoders")}
_PATTERNS = frozenset({
    " {2,}",
    # GPT-2, Llama 3, Qwen 2 and 3, o200k: alternatives that begin with different characters.
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
})  # fmt: skip
_SHORT = 4  # characters that may be put before a text


def is_ours(template: TemplateText | None) -> bool:
    """Whether a template, and the one for tools beside it, ship with luthier; true for none."""
    if template is None:
        return True
    ours = template.name == "ChatML" or template.source in _shipped()
    return ours and is_ours(template.for_tools)


@cache
def _shipped() -> frozenset[str]:
    found = {CHATML}
    for entry in (files("luthier.gallery") / "templates").iterdir():
        found.add(entry.read_text("utf-8"))
    config = (files("luthier") / "starter" / "tokenizer_config.json").read_text("utf-8")
    found.add(decode(config)["chat_template"])
    return frozenset(found)


def is_plain(definition: Mapping[str, object]) -> bool:
    """Whether a tokenizer.json is made of parts that are known to be bounded and linear."""
    return (
        _known(definition.get("normalizer"), _NORMALIZERS)
        and _known(definition.get("pre_tokenizer"), _SPLITTERS)
        and _known(definition.get("decoder"), _DECODERS)
    )


def _known(part: object, kinds: frozenset[str]) -> bool:
    if part is None:
        return True
    if not isinstance(part, Mapping):
        return False
    kind = part.get("type")
    if kind == "Sequence":
        inner = [item for name in _LISTS["Sequence"] for item in part.get(name) or ()]
        return all(_known(item, kinds) for item in inner)
    if kind == "Prepend":
        return isinstance(part.get("prepend"), str) and len(part["prepend"]) <= _SHORT
    if kind == "Replace":
        return _shortens(part)
    if kind == "Split":
        return _literal(part) is not None or _regex(part) in _PATTERNS
    return kind in kinds


def _shortens(part: Mapping[str, object]) -> bool:
    """Whether what a replacement puts in is no longer than what it takes out."""
    content, literal = part.get("content"), _literal(part)
    if not isinstance(content, str):
        return False
    if literal is not None:
        return len(content) <= len(literal)
    return _regex(part) in _PATTERNS and len(content) <= 1


def _literal(part: Mapping[str, object]) -> str | None:
    pattern = part.get("pattern")
    text = pattern.get("String") if isinstance(pattern, Mapping) else None
    return text if isinstance(text, str) and text else None


def _regex(part: Mapping[str, object]) -> str | None:
    pattern = part.get("pattern")
    text = pattern.get("Regex") if isinstance(pattern, Mapping) else None
    return text if isinstance(text, str) else None
