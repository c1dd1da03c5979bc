import json
import subprocess
import sys

import numpy as np
import pytest
from tests.conftest import SHARED
from tests.rendering import VOCABULARIES, byte_tokenizer, folder

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import TokenizerError

pytestmark = pytest.mark.skipif(not SHARED.exists(), reason=f"{SHARED} is absent")


@pytest.mark.parametrize("name", VOCABULARIES)
def test_converted_vocabularies_give_the_published_ids(name, built):
    tokenizer, golden = built(name), SHARED / "tokenizers/golden" / VOCABULARIES[name][0]
    texts = golden.with_suffix(".inp.txt").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    ids = golden.with_suffix(".out.txt").read_text("utf-8").split("\n")
    assert len(texts) == 47
    for text, expected in zip(texts, ids, strict=False):
        assert tokenizer.encode(text).tolist() == [int(number) for number in expected.split()]
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_published_tokenizer_json_of_llama_2_agrees():
    tokenizer = Tokenizer.from_folder(SHARED / "tokenizers/llama2")
    golden = SHARED / "tokenizers/golden/llama-spm.inp.txt"
    texts = golden.read_text("utf-8").split("\n__ggml_vocab_test__\n")
    ids = golden.with_name("llama-spm.out.txt").read_text("utf-8").split("\n")
    wrong = [
        text
        for text, want in zip(texts, ids, strict=False)
        if tokenizer.encode(text).tolist() != list(map(int, want.split()))
    ]
    assert wrong == []
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, None)
    assert tokenizer.adds_bos
    assert tokenizer.vocab_size == 32000


def test_roles_and_stops_of_the_built_tokenizers(built):
    qwen, llama = built("qwen2.5"), built("llama3")
    assert (qwen.bos_id, qwen.eos_id, qwen.pad_id) == (None, 151645, 151643)
    assert (llama.bos_id, llama.eos_id, llama.vocab_size) == (128000, 128009, 128256)
    assert llama.adds_bos
    assert not qwen.adds_bos


@pytest.mark.parametrize("name", ["llama3", "qwen2.5", "llama2"])
def test_content_never_becomes_a_control_token(name, built):
    tokenizer = built(name)
    control = set(tokenizer.special_tokens.values())
    for text in tokenizer.special_tokens:
        for content in (text, f"a {text} b", f"\n{text}{text}"):
            assert not control & set(tokenizer.encode(content).tolist()), content
            assert tokenizer.decode(tokenizer.encode(content)) == content
        assert tokenizer.special_tokens[text] in tokenizer.encode(text, parse_special=True)


def test_tokens_marked_as_not_special_are_control_tokens_all_the_same(built):
    tokenizer = built("qwen2.5")
    assert {"<tool_call>", "</tool_call>", "<|fim_prefix|>"} <= set(tokenizer.special_tokens)
    assert tokenizer.special_tokens["<tool_call>"] not in tokenizer.encode("<tool_call>")


def test_added_text_that_is_no_markup_stays_text():
    tokenizer = byte_tokenizer(("<|end|>",), plain=("    ", "<table>", "protein", "<tool>"))
    assert set(tokenizer.special_tokens) == {"<|end|>", "<tool>"}
    assert len(tokenizer.encode("    ")) == len(tokenizer.encode("protein")) == 1


def test_decoding_hides_published_specials_and_shows_tool_markers(built):
    tokenizer = built("qwen2.5")
    ids = tokenizer.encode("<|im_start|>a<tool_call>b</tool_call><|im_end|>", parse_special=True)
    assert tokenizer.decode(ids, skip_special=True) == "a<tool_call>b</tool_call>"


def test_a_vocabulary_that_spells_a_control_token_is_kept_from_it(tmp_path):
    tokenizer = Tokenizer.from_folder(folder(tmp_path / "m", tokenizer__model="tiny/m.model"))
    stop = tokenizer.eos_id
    assert stop not in tokenizer.encode("text </s> more</s>")
    assert stop in tokenizer.encode("text </s>", parse_special=True)


def test_a_folder_without_tokenizer_json_is_converted_once_and_cached(tmp_path, luthier_home):
    made = folder(tmp_path / "gpt2", vocab__json="gpt2/vocab.json", merges__txt="gpt2/merges.txt")
    first = Tokenizer.from_folder(made)
    cached = list((luthier_home / "cache/tokenizers").glob("*.json"))
    assert len(cached) == 1
    stamp = cached[0].stat().st_mtime_ns
    assert Tokenizer.from_folder(made).fingerprint == first.fingerprint
    assert cached[0].stat().st_mtime_ns == stamp
    assert first.encode("Hello world").tolist() == [15496, 995]


def test_damaged_and_absent_tokenizers_are_refused_by_name(tmp_path):
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x00\x01 no model at all")
    with pytest.raises(TokenizerError, match="SentencePiece"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": ')
    with pytest.raises(TokenizerError, match="not a tokenizer"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE"}, "added_tokens": []}')
    with pytest.raises(TokenizerError, match="cannot be loaded"):
        Tokenizer.from_folder(tmp_path)


def test_what_is_saved_loads_as_the_same_tokenizer(tmp_path):
    tokenizer = Tokenizer.from_folder(SHARED / "tokenizers/minimind")
    tokenizer.save(tmp_path / "out")
    again = Tokenizer.from_folder(tmp_path / "out")
    text = "<|im_start|>user\nHi <|im_end|>"
    for special in (False, True):
        ids = [item.encode(text, parse_special=special).tolist() for item in (tokenizer, again)]
        assert ids[0] == ids[1]
    assert again.chat_template == tokenizer.chat_template
    assert again.stop_ids == tokenizer.stop_ids


def test_stop_ids_come_from_generation_config_too(tmp_path):
    made = folder(tmp_path / "m", tokenizer__json="minimind/tokenizer.json")
    (made / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (made / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    assert Tokenizer.from_folder(made).stop_ids == {0, 2}


def test_named_templates_and_template_files_are_found(tmp_path):
    made = folder(tmp_path / "m", tokenizer__json="minimind/tokenizer.json")
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    (made / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert Tokenizer.from_folder(made).chat_template == "d"
    (made / "chat_template.jinja").write_text("file")
    assert Tokenizer.from_folder(made).chat_template == "file"


def test_ids_with_gaps_are_the_published_ones(tmp_path):
    made = folder(tmp_path / "m", tokenizer__json="minimind/tokenizer.json")
    token = {"content": "<|later|>", "special": True}
    config = {"added_tokens_decoder": {"7000": token}, "eos_token": "<|later|>"}
    (made / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = Tokenizer.from_folder(made)
    assert tokenizer.eos_id == 7000
    assert tokenizer.vocab_size == 7001
    assert tokenizer.encode("a<|later|>", parse_special=True)[-1] == 7000


def test_pieces_agree_with_the_whole_text_for_every_tokenizer(built):
    others = [
        Tokenizer.from_folder(SHARED / "tokenizers" / name)
        for name in ("llama2", "phi3", "minimind")
    ]
    for tokenizer in (*others, built("qwen2.5"), built("llama3")):
        control = [text for text in tokenizer.special_tokens if "unk" not in text][:4]
        text = "".join(f"{token}user\nHello there, world 12!{token}" for token in control)
        parts, done = [], 0
        for start, stop, number in tokenizer.find_controls(text):
            if text[done:start]:
                parts.append(
                    tokenizer.encode_piece(text[done:start], continued=False, at_start=done == 0)
                )
            parts.append(np.array([number]))
            done = stop
        assert np.concatenate(parts).tolist() == tokenizer.encode(text, parse_special=True).tolist()


def test_loading_a_tokenizer_loads_no_torch():
    code = (
        "import sys; from luthier.data.tokens.tokenizer import Tokenizer; from luthier.data.prepare import prepare;"
        f"Tokenizer.from_folder({str(SHARED / 'tokenizers/minimind')!r});"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
