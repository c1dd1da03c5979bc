"""Streamed text: no half character ever, nothing lost, nothing changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import tiny_tokenizer

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.inference.stream import HALF, stream_text


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(tiny_tokenizer(tmp_path_factory.mktemp("bytes")))


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters=HALF)))
def test_bytes_become_whole_characters(tokenizer: Tokenizer, text: str) -> None:
    pieces = list(stream_text(tokenizer, tokenizer.encode(text).tolist()))
    assert "".join(pieces) == text
    assert all(piece and HALF not in piece for piece in pieces)


def test_a_character_comes_when_its_last_byte_does(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("aé€🎻b").tolist()
    assert len(ids) == 11
    assert list(stream_text(tokenizer, ids)) == ["a", "é", "€", "🎻", "b"]


@given(ids=st.lists(st.integers(0, 258), max_size=40))
def test_any_bytes_end_up_as_the_text_of_all(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert "".join(stream_text(tokenizer, ids)) == tokenizer.decode(ids, skip_special=True)


def test_an_answer_cut_inside_a_character_says_so(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ok 🎻").tolist()[:-1]
    assert list(stream_text(tokenizer, ids)) == ["o", "k", " ", HALF]


@pytest.mark.parametrize("folder", ["tokenizers/llama2", "models/stories260K_hf"])
def test_sentencepiece_keeps_its_spaces(shared, folder: str) -> None:
    tokenizer = Tokenizer.from_folder(shared(folder))
    text = "Once upon a time, Zoë saw 琴 and 🎻.\n  Two spaces."
    ids = tokenizer.encode(text).tolist()
    pieces = list(stream_text(tokenizer, ids))
    assert "".join(pieces) == tokenizer.decode(ids)
    assert HALF not in "".join(pieces)
