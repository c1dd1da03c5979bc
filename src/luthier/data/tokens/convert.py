"""tokenizer.json from the other forms tokenizers are published in.

    python -m luthier.data.tokens.convert tokenizer.model tokenizer.json

Reads SentencePiece models (BPE and Unigram), tiktoken rank files (Llama 3, Qwen), and vocab.json with
merges.txt (GPT-2).  It needs no package but the standard library, and runs in a process of its own
because a vocabulary of 150,000 takes seconds and a gigabyte.
"""

import base64
import binascii
import json
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from luthier.bounded import decode
from luthier.durable import write_atomic
from luthier.errors import LuthierError, TokenizerError

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_RANKS, _LLAMA3_RANKS = 151643, 128000
_QWEN_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA3_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}
_NORMAL, _UNKNOWN, _CONTROL, _USER, _BYTE = 1, 2, 3, 4, 6  # SentencePiece piece types
_UNIGRAM, _BPE = 1, 2  # SentencePiece model types


def convert(source: Path) -> dict[str, object]:
    """The tokenizer.json object for a published file.

    Raises:
        TokenizerError: The file is of none of the three forms.
    """
    if source.name == "vocab.json":
        return _from_vocabulary(source)
    data = source.read_bytes()
    ranks = _ranks(data)
    if ranks:
        return _from_ranks(ranks)
    return _from_sentencepiece(data, source)


# -- tiktoken


def _ranks(data: bytes) -> dict[bytes, int]:
    """Token bytes to rank, or nothing if these are not lines of base64 and a number."""
    ranks: dict[bytes, int] = {}
    try:
        for line in data.split(b"\n"):
            if line.strip():
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (ValueError, binascii.Error):
        return {}
    return ranks


def _from_ranks(ranks: Mapping[bytes, int]) -> dict[str, object]:
    names = _byte_names()
    vocabulary = {"".join(names[byte] for byte in token): rank for token, rank in ranks.items()}
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1 and len(parts := _parts(token, rank, ranks)) == 2:
            merges.append(["".join(names[byte] for byte in part) for part in parts])
    qwen = len(ranks) == _QWEN_RANKS
    digits = "" if qwen else "{1,3}"
    split = {
        "type": "Split",
        "pattern": {"Regex": _SPLIT % digits},
        "behavior": "Isolated",
        "invert": False,
    }
    first = max(ranks.values()) + 1
    special: list[str] = []
    if qwen:
        special = list(_QWEN_SPECIAL)
    elif len(ranks) == _LLAMA3_RANKS:
        special = _llama3_special()
    post = None
    if len(ranks) == _LLAMA3_RANKS:
        post = _bos_first(special[0], first)
    return _definition(
        model=_bpe(vocabulary, merges, ignore_merges=not qwen),
        added=[_added(text, first + at, special=True) for at, text in enumerate(special)],
        normalizer={"type": "NFC"} if qwen else None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]},
        decoder=_byte_level(),
        post_processor=post,
    )


def _parts(token: bytes, rank: int, ranks: Mapping[bytes, int]) -> list[bytes]:
    """The two tokens that merge into this one: byte-pair encoding with only the earlier ranks."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        pairs = [(ranks.get(parts[at] + parts[at + 1], rank), at) for at in range(len(parts) - 1)]
        best, at = min(pairs)
        if best >= rank:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _llama3_special() -> list[str]:
    texts, reserved = [], 0
    for number in range(256):
        if number in _LLAMA3_NAMED:
            texts.append(_LLAMA3_NAMED[number])
        else:
            texts.append(f"<|reserved_special_token_{reserved}|>")
            reserved += 1
    return texts


# -- vocab.json and merges.txt


def _from_vocabulary(source: Path) -> dict[str, Any]:
    merges_file = source.parent / "merges.txt"
    if not merges_file.is_file():
        raise TokenizerError(
            f"{source} has no merges.txt beside it",
            why="a byte-pair vocabulary is of no use without its merges",
            fix=f"copy merges.txt to {merges_file}",
        )
    vocabulary = decode(source.read_text(encoding="utf-8"))
    lines = merges_file.read_text(encoding="utf-8").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    special = [text for text in ("<|endoftext|>", *_QWEN_SPECIAL[1:]) if text in vocabulary]
    return _definition(
        model=_bpe(vocabulary, merges),
        added=[_added(text, vocabulary[text], special=True) for text in special],
        pre_tokenizer=_byte_level(),
        decoder=_byte_level(),
    )


# -- SentencePiece


class _Piece(NamedTuple):
    text: str
    score: float
    type: int


def _from_sentencepiece(data: bytes, source: Path) -> dict[str, Any]:
    pieces: list[_Piece] = []
    trainer: dict[int, Any] = {}
    normal: dict[int, Any] = {}
    try:
        for number, value in _fields(data):
            if number == 1:
                fields = dict(_fields(value))
                score = struct.unpack("<f", fields.get(2, b"\0\0\0\0"))[0]
                pieces.append(_Piece(fields[1].decode("utf-8"), score, fields.get(3, _NORMAL)))
            elif number == 2:
                trainer = dict(_fields(value))
            elif number == 3:
                normal = dict(_fields(value))
    except (ValueError, KeyError, IndexError, struct.error, TypeError, AttributeError) as error:
        raise TokenizerError(
            f"{source} is neither tiktoken ranks nor a SentencePiece model: {error}",
            why="those are the two forms of a tokenizer.model",
            fix="fetch the file again",
        ) from error
    if not pieces:
        raise TokenizerError(f"{source} holds no vocabulary")
    added = [
        _added(piece.text, number, special=piece.type != _USER)
        for number, piece in enumerate(pieces)
        if piece.type in (_UNKNOWN, _CONTROL, _USER)
    ]
    bos = next(
        (number for number, piece in enumerate(pieces) if piece.text in ("<s>", "<bos>")), None
    )
    bpe = trainer.get(3, _UNIGRAM) == _BPE
    prefix = bool(normal.get(3, 1))
    return _definition(
        model=_spm_bpe(pieces) if bpe else _spm_unigram(pieces),
        added=added,
        normalizer=_spm_normalizer(normal, prefix=prefix and bpe),
        pre_tokenizer=None if bpe else _metaspace(prefix=prefix),
        decoder=_spm_decoder(prefix=prefix) if bpe else _metaspace(prefix=prefix),
        post_processor=None if bos is None else _bos_first(pieces[bos].text, bos),
    )


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Fields of a protocol-buffers message: numbers as int, 4-byte and longer values as bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(kind)
        size = varint() if kind == 2 else size
        if size is None or at + size > len(data):
            raise ValueError(f"no message: field of kind {kind} at byte {at}")
        yield key >> 3, data[at : at + size]
        at += size


def _spm_bpe(pieces: list[_Piece]) -> dict[str, object]:
    ids = {piece.text: number for number, piece in enumerate(pieces)}
    usable = {piece.text for piece in pieces if piece.type in (_NORMAL, _USER)}
    merges: list[tuple[float, str, str]] = []
    for piece in pieces:
        if piece.type != _NORMAL:
            continue
        text = piece.text
        splits = [(text[:at], text[at:]) for at in range(1, len(text))]
        local = [(left, right) for left, right in splits if left in usable and right in usable]
        local.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges += [(piece.score, left, right) for left, right in local]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    model = _bpe(ids, [[left, right] for _, left, right in merges])
    unknown = next((piece.text for piece in pieces if piece.type == _UNKNOWN), None)
    fallback = any(piece.type == _BYTE for piece in pieces)
    return {**model, "unk_token": unknown, "fuse_unk": True, "byte_fallback": fallback}


def _spm_unigram(pieces: list[_Piece]) -> dict[str, object]:
    unknown = next((number for number, piece in enumerate(pieces) if piece.type == _UNKNOWN), None)
    fallback = any(piece.type == _BYTE for piece in pieces)
    vocabulary = [[piece.text, piece.score] for piece in pieces]
    return {"type": "Unigram", "unk_id": unknown, "vocab": vocabulary, "byte_fallback": fallback}


def _spm_normalizer(normal: Mapping[int, Any], *, prefix: bool) -> dict[str, Any] | None:
    parts: list[dict[str, Any]] = []
    if charsmap := normal.get(2):
        encoded = base64.b64encode(charsmap).decode("ascii")
        parts.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if normal.get(4, 1):  # remove_extra_whitespaces
        parts.append({"type": "Strip", "strip_left": True, "strip_right": True})
        parts.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if prefix:
        parts.append({"type": "Prepend", "prepend": "▁"})
    parts.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    return {"type": "Sequence", "normalizers": parts}


def _spm_decoder(*, prefix: bool) -> dict[str, object]:
    parts: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": parts}


def _metaspace(*, prefix: bool) -> dict[str, object]:
    scheme = "always" if prefix else "never"
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}


# -- parts of tokenizer.json


def _bpe(
    vocabulary: Mapping[str, int], merges: list[list[str]], *, ignore_merges: bool = False
) -> dict[str, object]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocabulary,
        "merges": merges,
    }


def _byte_level(*, use_regex: bool = True) -> dict[str, object]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": use_regex,
    }


def _byte_names() -> dict[int, str]:
    """The printable character that stands for each byte, as in GPT-2."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names = {byte: chr(byte) for byte in plain}
    others = [byte for byte in range(256) if byte not in names]
    return names | {byte: chr(256 + at) for at, byte in enumerate(others)}


def _added(text: str, number: int, *, special: bool) -> dict[str, object]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": text, **flags, "special": special}


def _bos_first(text: str, number: int) -> dict[str, object]:
    bos = {"SpecialToken": {"id": text, "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B"))
    tokens = {text: {"id": text, "ids": [number], "tokens": [text]}}
    return {
        "type": "TemplateProcessing",
        "single": [bos, one],
        "pair": [bos, one, bos, two],
        "special_tokens": tokens,
    }


def _definition(
    *,
    model: dict[str, Any],
    added: list[dict[str, object]],
    normalizer: dict[str, object] | None = None,
    pre_tokenizer: dict[str, object] | None = None,
    decoder: dict[str, object] | None = None,
    post_processor: dict[str, object] | None = None,
) -> dict[str, object]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def main(arguments: list[str]) -> int:
    """Convert one file to another; 2 and one line on stderr if it cannot be done."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m luthier.data.tokens.convert SOURCE TARGET\n")
        return 2
    source, target = map(Path, arguments)
    try:
        write_atomic(target, json.dumps(convert(source), ensure_ascii=False))
    except LuthierError as error:
        sys.stderr.write(f"{error.what}\n")
        return 2
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{source}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
