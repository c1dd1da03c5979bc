"""A `tokenizer.json` as the token list of a GGUF file, so that llama.cpp makes the same ids.

llama.cpp knows pre-tokenizers by name.  The name is found from the structure of `pre_tokenizer`, not
from a hash of ids as its own converter does: two tokenizers can agree on the hashed text and differ
elsewhere, and one of our own has no hash there at all.

Source: https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp (names and their patterns).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from luthier.errors import TokenizerError

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_TAIL}"
_LLAMA3 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_TAIL}"


class Kind(IntEnum):
    """Types of tokens in a GGUF file."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class TokenList:
    """The vocabulary of a GGUF file.

    Args:
        model: `gpt2` (byte-level BPE) or `llama` (SentencePiece-like, with scores).
        pre: llama.cpp's name of the pre-tokenizer.
        tokens: One text for each row of the embedding.
        kinds: The type of each.
        scores: Of each, for `llama`; the order of merges.
        merges: `left right`, for `gpt2`.
        adds_space_prefix: Whether a space is put before a text.
    """

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    adds_space_prefix: bool = False


def token_list(
    definition: Mapping[str, Any], control: Mapping[str, int], *, rows: int, unknown: str | None
) -> TokenList:
    """The vocabulary of a tokenizer, as many tokens as the embedding has rows.

    Args:
        definition: Of `tokenizer.json`.
        control: Texts and ids of control tokens, which are never read out of a user's text.
        rows: Of the embedding; ids without a token become unused ones.

    Raises:
        TokenizerError: A form that llama.cpp has no name for, or more tokens than rows.
    """
    model = definition["model"]
    if model.get("type") != "BPE":
        raise _unknown_form(f"model type {model.get('type')}")
    vocabulary: dict[str, int] = dict(model["vocab"])
    added = {token["content"]: token["id"] for token in definition.get("added_tokens", ())}
    largest = max([*vocabulary.values(), *added.values()])
    if largest >= rows:
        raise TokenizerError(
            f"the tokenizer has an id {largest}, the embedding {rows} rows",
            why="every token needs a row of the embedding",
            fix="give the tokenizer that belongs to this model",
        )
    tokens = [f"[PAD{number}]" for number in range(rows)]
    kinds = [int(Kind.UNUSED)] * rows
    for text, number in vocabulary.items():
        tokens[number], kinds[number] = text, int(Kind.NORMAL)
    spaced = bool(model.get("byte_fallback"))
    if spaced:
        for text, number in vocabulary.items():
            if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
                kinds[number] = int(Kind.BYTE)
    for text, number in added.items():
        known = text in control
        tokens[number], kinds[number] = text, int(Kind.CONTROL if known else Kind.USER_DEFINED)
    if unknown is not None and unknown in vocabulary and spaced:
        kinds[vocabulary[unknown]] = int(Kind.UNKNOWN)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    if spaced:
        prefixed = _space_prefix(definition.get("normalizer"))
        return TokenList("llama", "default", tokens, kinds, _scores(tokens, merges), [], prefixed)
    return TokenList("gpt2", _pre(definition), tokens, kinds, [], merges)


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """llama.cpp joins the pair with the highest score first: the earlier a merge, the higher."""
    rank: dict[str, int] = {}
    for place, pair in enumerate(merges):
        left, _, right = pair.partition(" ")
        rank.setdefault(left + right, place)
    return [-float(rank.get(token, len(merges))) for token in tokens]


def _space_prefix(normalizer: Any) -> bool:
    steps = (normalizer or {}).get("normalizers", [normalizer] if normalizer else [])
    return any(step.get("type") == "Prepend" for step in steps)


def _pre(definition: Mapping[str, Any]) -> str:
    """llama.cpp's name of a byte-level pre-tokenizer."""
    pre = definition.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        pattern = steps[0]["pattern"].get("Regex", "")
        if pattern == _QWEN2:
            return "qwen2"
        if pattern == _LLAMA3:
            return "llama-bpe" if definition["model"].get("ignore_merges") else "smaug-bpe"
        raise _unknown_form(f"a pre-tokenizer that splits by {pattern!r}")
    raise _unknown_form(f"pre-tokenizer {' + '.join(map(str, kinds))}")


def _unknown_form(what: str) -> TokenizerError:
    return TokenizerError(
        f"{what} has no name in llama.cpp that is known here",
        why="under another name llama.cpp would make other ids than the training did",
        fix="luthier export RUN --to merged --output FOLDER, for tools that read safetensors",
    )
