"""`apply_chat_template: false`: rows as they stand, by the rules of the settings reference."""

import pytest
from tests.conftest import SHARED
from tests.rendering import ORIGIN, byte_tokenizer, chat

from luthier.data.rendering.render import Renderer
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import BadRow, Conversation, Message, Preference, Text, ToolCall
from luthier.errors import FormatError

LLAMA = "<s>[INST] Hi [/INST] Hello. </s><s>[INST] More [/INST] Fine. </s>"
GUANACO = "### Human: Hi### Assistant: Hello.### Human: More### Assistant: Fine."


@pytest.fixture(scope="module")
def llama():
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is absent")
    return Tokenizer.from_folder(SHARED / "tokenizers/llama2")


def texts(renderer, sample, learned=True):
    (pieces,) = renderer.explain(sample)
    return "".join(piece.text for piece in pieces if bool(piece.weight) == learned)


def test_prompt_and_completion_stand_one_behind_the_other(llama):
    renderer = Renderer(llama, None)
    sequence = renderer.render(Conversation(chat("Q: 1+1? A:", " 2"), ORIGIN)).sequences[0]
    prompt = llama.encode("Q: 1+1? A:").tolist()
    assert sequence.ids.tolist() == [
        1,
        *prompt,
        *llama.encode_piece(" 2", continued=True).tolist(),
        2,
    ]
    assert sequence.weights.tolist() == [0] * (1 + len(prompt)) + [1] * (
        len(sequence.ids) - 1 - len(prompt)
    )
    assert renderer.prompt(chat("Q: 1+1? A:")).tolist() == [1, *prompt]


def test_begin_and_end_are_put_once_only(llama):
    renderer = Renderer(llama, None)
    for text in ("Hello.", "<s>Hello.", "Hello.</s>", "<s>Hello.</s>"):
        ids = renderer.render(Text(text, ORIGIN)).sequences[0].ids.tolist()
        assert ids == [1, *llama.encode("Hello.").tolist(), 2]
    ids = renderer.render(Conversation(chat("<s>a", "b</s>"), ORIGIN)).sequences[0].ids.tolist()
    assert (ids.count(1), ids.count(2), ids[-1]) == (1, 1, 2)


def test_text_is_learned_whole_and_by_answers_only_where_that_is_asked(llama):
    for train_on in (None, "all"):
        renderer = Renderer(llama, None, train_on=train_on)
        sequence = renderer.render(Text(LLAMA, ORIGIN, "llama2")).sequences[0]
        assert sequence.weights.tolist() == [0] + [1] * (len(sequence.ids) - 1)
        assert sequence.ids.tolist() == llama.encode(LLAMA, parse_special=True).tolist()
    renderer = Renderer(llama, None, train_on="assistant")
    assert texts(renderer, Text(LLAMA, ORIGIN, "llama2")) == " Hello. </s> Fine. </s>"
    assert texts(renderer, Text(GUANACO, ORIGIN, "guanaco")) == " Hello. Fine.</s>"
    assert renderer.controls["<s>"] == 2
    renderer = Renderer(llama, None, train_on="last_assistant")
    assert texts(renderer, Text(LLAMA, ORIGIN, "llama2")) == " Fine. </s>"
    with pytest.raises(FormatError, match="no answers are known"):
        renderer.render(Text("plain", ORIGIN))


def test_the_system_prompt_has_a_place_in_each_form(llama):
    renderer = Renderer(llama, None, system_prompt="Be brief.")
    made = {
        form: texts(renderer, Text(text, ORIGIN, form))
        for form, text in (("llama2", LLAMA), ("guanaco", GUANACO), ("plain", "Once."))
    }
    assert made["llama2"].startswith("<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]")
    assert made["guanaco"] == "Be brief.\n\n" + GUANACO + "</s>"
    assert made["plain"] == "Be brief.Once.</s>"
    own = "<s>[INST] <<SYS>>\nMine.\n<</SYS>>\n\nHi [/INST] Yes </s>"
    assert "Be brief." not in texts(renderer, Text(own, ORIGIN, "llama2"))
    assert renderer.counts["own_system_prompt"] == 1
    pair = Preference(chat("Q"), (Message("assistant", "a"),), (Message("assistant", "b"),), ORIGIN)
    for pieces in renderer.explain(pair):
        assert "".join(piece.text for piece in pieces).startswith("<s>Be brief.Q")
    talk = Conversation(chat("<s>[INST] Hi [/INST]", " Yes </s>"), ORIGIN)
    assert "<<SYS>>\nBe brief." in texts(renderer, talk, learned=False)


def test_a_row_that_begins_with_another_control_token_is_refused_with_the_fix():
    tokenizer = byte_tokenizer(("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
    text = "<|im_start|>user\nHi<|im_end|>"
    bad = Renderer(tokenizer, None, system_prompt="Be brief.").render(Text(text, ORIGIN))
    assert isinstance(bad, BadRow)
    assert "<|im_start|>" in bad.reason
    renderer = Renderer(tokenizer, None)
    assert (
        renderer.render(Text(text, ORIGIN)).sequences[0].ids.tolist().count(tokenizer.eos_id) == 1
    )
    assert renderer.controls == {"<|im_start|>": 1, "<|im_end|>": 1}


def test_tool_calls_need_a_template(llama):
    talk = (Message("user", "a"), Message("assistant", "", tool_calls=(ToolCall("f", {}),)))
    bad = Renderer(llama, None).render(Conversation(talk, ORIGIN))
    assert "apply_chat_template is false" in bad.reason


def test_a_text_cut_short_learns_no_false_end(llama):
    sequence = Renderer(llama, None, seq_length=5).render(
        Text("one two three four five six", ORIGIN)
    )
    assert len(sequence.sequences[0].ids) == 5
    assert sequence.sequences[0].ids[-1] != 2
    assert sequence.cut.answer_tokens > 0
