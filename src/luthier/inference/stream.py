"""Token ids to text as they arrive.

The trap: a token may hold half a character, and some tokenizers decode a token differently at the
start of a text.  What is given out never changes later, and together it is the text of all ids.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

HALF = "\ufffd"
"""What a decoder writes for bytes that are no whole character."""


class Decoder(Protocol):
    """The part of `luthier.data.tokens.tokenizer.Tokenizer` that is needed here."""

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str: ...


class TextStream:
    """Decodes a growing list of ids, holding back what the next id could still change."""

    def __init__(self, tokenizer: Decoder) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context = 0  # ids from here to `_given` are decoded again, for what follows them
        self._given = 0

    def add(self, token: int) -> str:
        """The text that became certain with this id; may be empty."""
        self._ids.append(token)
        return self._emit(final=False)

    def finish(self) -> str:
        """What was held back, with a replacement character for bytes that stayed incomplete."""
        return self._emit(final=True)

    def _emit(self, *, final: bool) -> str:
        before = self._decode(self._ids[self._context : self._given])
        now = self._decode(self._ids[self._context :])
        if len(now) <= len(before) or (now.endswith(HALF) and not final):
            return ""
        self._context, self._given = self._given, len(self._ids)
        return now[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special=True)


def stream_text(tokenizer: Decoder, tokens: Iterable[int]) -> Iterator[str]:
    """The text of ids in pieces, none empty, no character in two pieces."""
    text = TextStream(tokenizer)
    for token in tokens:
        if piece := text.add(token):
            yield piece
    if rest := text.finish():
        yield rest
