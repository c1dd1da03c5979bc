"""Keys of rows, eight bytes each: the same for rows that say the same."""

import hashlib
import re
import unicodedata

from luthier.data.prepare import sample_key
from luthier.data.types import Conversation, Feedback, Message, Preference, Sample, Text

_NO_WORD = re.compile(r"[\W_]+")


def exact_key(sample: Sample) -> int:
    """64 bits of what makes a sample the same in training."""
    if isinstance(sample, Feedback):
        sample = sample.conversation
    return int.from_bytes(sample_key(sample)[:8], "little")


def loose_key(sample: Sample) -> int:
    """64 bits of the words alone: case, spacing, punctuation and forms of characters left aside."""
    words = _NO_WORD.sub("", unicodedata.normalize("NFKC", words_of(sample)).casefold())
    return hash64(words)


def hash64(text: str) -> int:
    """64 bits of a text."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def words_of(sample: Sample) -> str:
    """What is said in a sample, without who says it."""
    if isinstance(sample, Feedback):
        sample = sample.conversation
    if isinstance(sample, Text):
        return sample.text
    turns: tuple[Message, ...]
    if isinstance(sample, Conversation):
        turns = sample.messages
    else:
        assert isinstance(sample, Preference)
        turns = (*sample.prompt, *sample.chosen, *sample.rejected)
    return "\n".join(f"{turn.content}{turn.tool_calls or ''}" for turn in turns)
