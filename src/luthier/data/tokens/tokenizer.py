"""Text to token ids and back, the same way in training, preview, planner and chat.

The trap: a control token (`<|im_end|>`, `</s>`) is a token only where luthier or a template writes
it.  `encode` reads the same characters in content as ordinary text, also where the tokenizer marks
the token `"special": false`; `parse_special=True` is the published behaviour, for whole texts.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer as FastTokenizer

from luthier.data.tokens.refusals import of_file
from luthier.data.tokens.tokenizer_files import ADDITIONAL, TokenizerFiles, read_files, token_text
from luthier.data.types import Ids
from luthier.durable import make_folders, write_atomic

_MARKUP = re.compile(r"^(<.+>|\[.+\]|\{.+\}|<\|.*|.*\|>)$", re.DOTALL)
_HTML = re.compile(
    r"^</?(table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote|strong|em|b|i|u|s|sub|sup"
    r"|code|p|a|ul|ol|li|br|hr|div|span|pre|img)>$"
)
_NESTED = ("normalizers", "pretokenizers")
_CACHED_PIECES, _CACHED_LENGTH = 4096, 4096


class Tokenizer:
    """A published tokenizer.

    Attributes:
        special_tokens: Every control token, text to id: those marked special, and added tokens that
            look like markup (`<tool_call>`); added whitespace runs and HTML tags are plain text.
        stop_ids: Ids that end generation, by the tokenizer and generation_config.json.
        adds_bos: Whether the published tokenizer puts a BOS before a plain text.
        chat_template: Jinja source, or None.
        other_templates: Those beside it by name; `tool_use` is for rows with tools.
        folder: Where it was loaded from; None for one made of parts.
        guarded: Control ids that come out of plain text by merging, and are kept from it.
        fingerprint: SHA-256 over everything that decides ids.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        self.folder: Path | None = None
        self.config: dict[str, Any] = files.config
        self.chat_template = files.chat_template
        self.other_templates = files.other_templates
        self.fingerprint = files.fingerprint
        self.definition = files.definition
        self._roles = files.roles
        self._pieces: dict[tuple[str, bool], Ids] = {}
        self._published: FastTokenizer | None = None

        named = {*files.roles.values(), *_additional(files.config)}
        added: list[dict[str, Any]] = files.definition["added_tokens"]
        control = [token for token in added if _is_control(token, named)]
        marked = [
            {**token, "special": token["special"] or _is_control(token, named)} for token in added
        ]
        self._plain = self._load({**files.definition, "added_tokens": marked})
        self._plain.encode_special_tokens = True
        self.special_tokens = {
            token["content"]: number
            for token in control
            if (number := self._plain.token_to_id(token["content"])) is not None
        }
        for text in files.roles.values():
            if (number := self._plain.token_to_id(text)) is not None:
                self.special_tokens.setdefault(text, number)
        self._skipped = {
            self.special_tokens[token["content"]]
            for token in control
            if token["special"] and token["content"] in self.special_tokens
        }
        continued, self._prefix_first_only = _without_prefix(files.definition)
        self._continued = self._plain
        if continued is not None:
            self._continued = self._load({**continued, "added_tokens": marked})
            self._continued.encode_special_tokens = True
        self._finder = _Finder(control, self.special_tokens)
        self.bos_id = self._role_id("bos_token")
        self.eos_id = self._role_id("eos_token")
        self.pad_id = self._role_id("pad_token")
        eos = () if self.eos_id is None else (self.eos_id,)
        self.stop_ids = frozenset((*eos, *files.stops))
        self.adds_bos = self.bos_id is not None and _adds_bos(
            files.config, files.definition, self.bos
        )
        self.guarded = self._leaks()

    @classmethod
    def from_folder(cls, folder: Path | str) -> Self:
        """Load a folder with tokenizer.json, or one it can be made from.

        Raises:
            TokenizerError: No tokenizer there, or it is damaged.
        """
        made = cls(read_files(Path(folder)))
        made.folder = Path(folder).absolute()
        return made

    @property
    def bos(self) -> str:
        """Text of the BOS token, empty if there is none."""
        return self._roles.get("bos_token", "")

    @property
    def eos(self) -> str:
        """Text of the EOS token, empty if there is none."""
        return self._roles.get("eos_token", "")

    @property
    def roles(self) -> Mapping[str, str]:
        """`bos_token`, `eos_token`, `pad_token`, `unk_token`: those there are, as text."""
        return self._roles

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; a model's embedding may have more rows."""
        largest = max(self.special_tokens.values(), default=-1)
        return max(int(self._plain.get_vocab_size(with_added_tokens=True)), largest + 1)

    def encode(self, text: str, *, parse_special: bool = False) -> Ids:
        """Ids of a text, without BOS and EOS.

        Args:
            parse_special: Read control tokens in the text as control tokens, exactly as the
                published tokenizer does; otherwise no id of `special_tokens` can come out.
        """
        if not parse_special:
            return self.encode_piece(text, continued=False)
        if self._published is None:
            self._published = self._load(self.definition)
        with of_file("used on a text"):
            return np.array(self._published.encode(text, add_special_tokens=False).ids, np.int32)

    def encode_piece(self, text: str, *, continued: bool, at_start: bool = True) -> Ids:
        """Ids of text that stands between control tokens, none of which is read out of it.

        Args:
            continued: The piece goes on where another piece of *text* ended, so that no space is
                put before it.
            at_start: It is at the start of the whole text: some tokenizers put their space only
                there, most of them after every control token.
        """
        continued = continued or (self._prefix_first_only and not at_start)
        key = (text, continued)
        if (ids := self._pieces.get(key)) is None:
            ids = self._encode(text, continued)
            if len(text) <= _CACHED_LENGTH:
                if len(self._pieces) >= _CACHED_PIECES:
                    self._pieces.clear()
                self._pieces[key] = ids
        return ids

    def find_controls(self, text: str) -> Iterator[tuple[int, int, int]]:
        """(start, stop, id) of every control token in a text; a span includes the white space that
        the token swallows."""
        return self._finder.find(text)

    def holds_control(self, text: str) -> bool:
        """Whether a text contains, or could complete at its ends, a control token."""
        return self._finder.suspicious(text)

    def break_controls(self, text: str, nonce: str) -> str:
        """The text with `nonce` put into every control token, so that none is left whole."""
        return self._finder.broken(text, nonce)

    def ends_turn(self, text: str) -> bool:
        """Whether a control token may be what ends an answer: it stops, or is marked special."""
        number = self.special_tokens.get(text)
        return number is not None and (number in self.stop_ids or number in self._skipped)

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Text of ids; `skip_special` leaves out the tokens published as special."""
        numbers = [int(number) for number in ids]
        if skip_special:
            numbers = [number for number in numbers if number not in self._skipped]
        return str(self._plain.decode(numbers, skip_special_tokens=False))

    def token(self, number: int) -> str | None:
        """The vocabulary entry of an id."""
        found = self._plain.id_to_token(number)
        return None if found is None else str(found)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Character span of each token of `encode(text)`."""
        return [
            (int(start), int(stop))
            for start, stop in self._plain.encode(text, add_special_tokens=False).offsets
        ]

    def save(self, folder: Path | str, *, eos: str | None = None) -> None:
        """Write tokenizer.json, tokenizer_config.json and the template as others expect them.

        Args:
            eos: The `eos_token` to name instead of its own.
        """
        target = Path(folder)
        make_folders(target)
        text = json.dumps(self.definition, ensure_ascii=False)
        write_atomic(target / "tokenizer.json", text)
        config = {name: value for name, value in self.config.items() if name != "chat_template"}
        config |= {role: text for role, text in self._roles.items() if role not in config}
        config |= {"eos_token": eos} if eos is not None else {}
        config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
        write_atomic(
            target / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2)
        )
        if self.chat_template is not None:
            write_atomic(target / "chat_template.jinja", self.chat_template)
        if self.other_templates:
            make_folders(target / ADDITIONAL)
        for name, source in self.other_templates.items():
            write_atomic(target / ADDITIONAL / f"{Path(name).name}.jinja", source)

    def _encode(self, text: str, continued: bool) -> Ids:
        encoder = self._continued if continued else self._plain
        with of_file("used on a text"):
            ids = _ids(encoder, text)
        if not (self.guarded and np.isin(ids, self.guarded).any()):
            return ids
        # This vocabulary can spell a control token by merging: keep its characters apart.
        at = next(iter(self._finder.find(text)), (0, 0, 0))[0] + 1
        return np.concatenate([_ids(encoder, text[:at]), self._encode(text[at:], True)])

    def _leaks(self) -> list[int]:
        """Control ids that come out of plain text; the unknown token is no control token here."""
        unknown = self._role_id("unk_token")
        guarded = sorted({*self.special_tokens.values()} - {unknown})
        texts = list(self.special_tokens)
        with of_file("used on a text"):
            found = self._plain.encode_batch(texts, add_special_tokens=False)
        return guarded if any(set(item.ids) & set(guarded) for item in found) else []

    def _role_id(self, role: str) -> int | None:
        text = self._roles.get(role)
        return None if text is None else self._plain.token_to_id(text)

    def _load(self, definition: Mapping[str, Any]) -> FastTokenizer:
        with of_file("loaded"):
            loaded = FastTokenizer.from_str(json.dumps(definition, ensure_ascii=False))
        loaded.no_padding()
        loaded.no_truncation()
        return loaded


def _ids(encoder: FastTokenizer, text: str) -> Ids:
    """Without the places of the tokens in the text, which take as long as the ids."""
    (found,) = encoder.encode_batch_fast([text], add_special_tokens=False)
    return np.array(found.ids, np.int32)


class _Finder:
    """Finds control tokens in text, leftmost and longest first, as the published tokenizers do."""

    def __init__(self, control: Sequence[Mapping[str, object]], ids: Mapping[str, int]) -> None:
        flags = {token["content"]: token for token in control}
        texts = sorted(ids, key=lambda text: (-len(text), text))
        pattern = "|".join(re.escape(text) for text in texts)
        self._ids, self._flags = ids, flags
        self._pattern = re.compile(pattern) if texts else None
        self._heads = frozenset(text[:size] for text in texts for size in range(1, len(text)))
        self._tails = frozenset(text[size:] for text in texts for size in range(1, len(text)))
        self._longest = max(2, *map(len, texts)) if texts else 2

    def find(self, text: str) -> Iterator[tuple[int, int, int]]:
        if self._pattern is None:
            return
        done = 0
        for match in self._pattern.finditer(text):
            start, stop = match.span()
            token = self._flags.get(match.group(), {})
            if token.get("lstrip"):
                start = max(done, len(text[:start].rstrip()))
            if token.get("rstrip"):
                stop = len(text) - len(text[stop:].lstrip())
            yield max(start, done), stop, self._ids[match.group()]
            done = stop

    def suspicious(self, text: str) -> bool:
        if self._pattern is None:
            return False
        core = text.strip()
        return bool(
            self._pattern.search(text) or self._ends_with_head(core) or self._starts_with_tail(core)
        )

    def _ends_with_head(self, core: str) -> bool:
        """Whether what follows could complete a control token."""
        last = core[1 - self._longest :]
        return any(last[at:] in self._heads for at in range(len(last)))

    def _starts_with_tail(self, core: str) -> bool:
        first = core[: self._longest - 1]
        return any(first[:size] in self._tails for size in range(1, len(first) + 1))

    def broken(self, text: str, nonce: str) -> str:
        while self._pattern is not None and (match := self._pattern.search(text)):
            text = text[: match.start()] + nonce.join(match.group()) + text[match.end() :]
        core = text.strip()
        if not core:
            return text
        start = text.index(core)
        before, after = text[:start], text[start + len(core) :]
        head = nonce if self._starts_with_tail(core) else ""
        tail = nonce if self._ends_with_head(core) else ""
        return f"{before}{head}{core}{tail}{after}"


def _is_control(token: Mapping[str, Any], named: set[str]) -> bool:
    text: str = token["content"]
    if token["special"] or text in named:
        return True
    return bool(_MARKUP.match(text)) and not _HTML.match(text)


def _additional(config: Mapping[str, Any]) -> list[str]:
    values: Any = config.get("additional_special_tokens") or []
    values = [*values, *(config.get("extra_special_tokens") or [])]
    return [text for value in values if (text := token_text(value))]


def _adds_bos(config: Mapping[str, object], definition: Mapping[str, object], bos: str) -> bool:
    if isinstance(flag := config.get("add_bos_token"), bool):
        return flag
    found = json.dumps((definition.get("post_processor") or {}), ensure_ascii=False)
    return "TemplateProcessing" in found and json.dumps(bos, ensure_ascii=False) in found


def _without_prefix(definition: Mapping[str, object]) -> tuple[dict[str, object] | None, bool]:
    """The same tokenizer without the space it puts before a text, or None if it puts none.

    Returns:
        The changed definition, and whether the space is put only at the very start of a text
        (`prepend_scheme: first`) and not after each control token.
    """
    changed = first_only = False

    def strip(part: object) -> object:
        nonlocal changed, first_only
        if isinstance(part, list):
            return [kept for item in part if (kept := strip(item)) is not None]
        if not isinstance(part, dict):
            return part
        part = {name: strip(value) if name in _NESTED else value for name, value in part.items()}
        if part.get("type") == "Prepend":
            changed = True
            return None
        if part.get("type") == "Metaspace" and part.get("prepend_scheme", "always") != "never":
            changed, first_only = True, first_only or part.get("prepend_scheme") == "first"
            return {**part, "prepend_scheme": "never", "add_prefix_space": False}
        if part.get("type") == "ByteLevel" and part.get("add_prefix_space"):
            changed = True
            return {**part, "add_prefix_space": False}
        return part

    parts = {name: strip(definition.get(name)) for name in ("normalizer", "pre_tokenizer")}
    return ({**definition, **parts} if changed else None), first_only
