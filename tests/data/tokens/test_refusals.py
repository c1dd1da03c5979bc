"""Whatever the tokenizers package makes of a damaged file, it ends as an error that names the file."""

import base64
import json

import pytest
from tests.tiny import tiny_tokenizer

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import TokenizerError

CHARSMAP = base64.b64encode(b"\x05\x00\x00\x00abc").decode()
DAMAGED = {
    "a panic": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": CHARSMAP}},
    "a bare exception at the first text": {
        "model": {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]], "byte_fallback": False}
    },
    "an expression that is none": {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "((("},
            "behavior": "Isolated",
            "invert": False,
        }
    },
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_refusal_of_the_package_is_a_fault_of_the_file(tmp_path, kind):
    folder = tiny_tokenizer(tmp_path)
    fields = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(fields | DAMAGED[kind]))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json cannot be (loaded|used)"):
        Tokenizer.from_folder(folder).encode("hello")


def test_an_interrupt_is_no_fault_of_the_file(tmp_path, monkeypatch):
    tokenizer = Tokenizer.from_folder(tiny_tokenizer(tmp_path))

    class Interrupted:
        def encode(self, *_, **__):
            raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer, "_plain", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("hello")
