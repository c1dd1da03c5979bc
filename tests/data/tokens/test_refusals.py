"""Whatever the tokenizers package makes of a damaged file, it ends as an error that names the file."""

import base64
import json

import pytest
from tests.tiny import tiny_tokenizer

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import TemplateError, TokenizerError

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


WRONG = {
    "tokenizer.json": [
        {"added_tokens": None}, {"added_tokens": "abc"}, {"added_tokens": [1]},
        {"added_tokens": [{"id": 1}]}, {"model": None}, {"model": "BPE"},
    ],
    "tokenizer_config.json": [
        {"added_tokens_decoder": [1]}, {"added_tokens_decoder": {"x": {"content": "a"}}},
        {"added_tokens_decoder": {"300": "<a>"}}, {"additional_special_tokens": 5},
    ],
    "added_tokens.json": [{"<a>": "x"}, {"<a>": None}, {"<a>": -1}],
}  # fmt: skip


@pytest.mark.parametrize(("name", "fields"), [(n, one) for n, all in WRONG.items() for one in all])
def test_a_file_of_another_shape_is_refused_by_name(tmp_path, name, fields):
    path = tiny_tokenizer(tmp_path) / name
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | fields))
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert name in caught.value.what


def test_a_template_that_is_no_text_is_refused(tmp_path):
    (tiny_tokenizer(tmp_path) / "chat_template.jinja").write_bytes(b"\xff\xfe{{")
    with pytest.raises(TemplateError, match=r"chat_template\.jinja cannot be read"):
        Tokenizer.from_folder(tmp_path)


def test_an_interrupt_is_no_fault_of_the_file(tmp_path, monkeypatch):
    tokenizer = Tokenizer.from_folder(tiny_tokenizer(tmp_path))

    class Interrupted:
        def encode_batch_fast(self, *_, **__):
            raise KeyboardInterrupt

    monkeypatch.setattr(tokenizer, "_plain", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("hello")
