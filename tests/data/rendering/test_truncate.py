import numpy as np
from tests.rendering import ORIGIN, byte_tokenizer, chat, chat_template

from luthier.data.rendering import truncate
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.turns import shortened, without_oldest_turn
from luthier.data.types import Conversation, LongRow, Message, Preference, Sequence

SOURCE = "{% for m in messages %}{{ '<|' + m.role[0] + '|>' + m.content + '<|e|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|a|>' }}{% endif %}"
TOKENIZER = byte_tokenizer(("<|s|>", "<|u|>", "<|a|>"), eos="<|e|>")


def render(messages, limit, rule="prompt_start", **settings):
    renderer = Renderer(
        TOKENIZER, chat_template(SOURCE, TOKENIZER), seq_length=limit, truncation=rule, **settings
    )
    made = renderer.render(Conversation(messages, ORIGIN))
    return (
        made if isinstance(made, LongRow) else (TOKENIZER.decode(made.sequences[0].ids), made.cut)
    )


TALK = chat("first", "one", "second question", "two", system="sys")
WHOLE = "<|s|>sys<|e|><|u|>first<|e|><|a|>one<|e|><|u|>second question<|e|><|a|>two<|e|>"


def test_oldest_whole_turns_go_first_then_the_prompt_and_the_system_text_stays():
    length = len(TOKENIZER.encode(WHOLE, parse_special=True))
    assert render(TALK, length) == (WHOLE, None)
    text, cut = render(TALK, length - 1)
    assert text == "<|s|>sys<|e|><|u|>second question<|e|><|a|>two<|e|>"
    assert (cut.turns, cut.prompt_tokens, cut.answer_tokens) == (1, 8, 4)
    text, cut = render(TALK, 20)
    assert text == "<|s|>sys<|e|><|u|>question<|e|><|a|>two<|e|>"
    assert (cut.turns, cut.prompt_tokens, cut.answer_tokens) == (1, 15, 4)


def test_the_answer_is_cut_only_when_nothing_of_the_prompt_is_left_and_ends_without_a_stop():
    text, cut = render(chat("a question", "a long answer"), 8)
    assert text == "<|u|><|e|><|a|>a lon"
    assert (cut.prompt_tokens, cut.answer_tokens) == (10, 9)
    assert isinstance(render(chat("q", "answer", system="x" * 50), 20), LongRow)


def test_answer_end_cuts_the_end_and_a_row_without_targets_is_no_row():
    text, cut = render(chat("question", "answer"), 14, "answer_end")
    assert text == "<|u|>question<|e|><|a|>ans"
    assert (cut.prompt_tokens, cut.answer_tokens) == (0, 4)
    assert "no answer is left" in render(chat("question", "answer"), 8, "answer_end").reason


def test_drop_and_refuse_give_the_length():
    for rule in ("drop", "refuse"):
        made = render(chat("question", "answer"), 8, rule)
        assert (made.tokens, made.origin) == (18, ORIGIN)


def test_both_sides_of_a_pair_lose_the_same_prompt():
    renderer = Renderer(TOKENIZER, chat_template(SOURCE, TOKENIZER), seq_length=18, objective="dpo")
    answers = (Message("assistant", "good"),), (Message("assistant", "a bad answer"),)
    made = renderer.render(Preference(chat("old", "x", "the question"), *answers, ORIGIN))
    texts = [TOKENIZER.decode(side.ids) for side in made.sequences]
    assert texts == ["<|u|>on<|e|><|a|>good<|e|>", "<|u|>on<|e|><|a|>a bad answer<|e|>"]
    assert made.cut.answer_tokens == 0


def test_results_of_tools_are_shortened_after_the_question():
    talk = (
        Message("user", "q"),
        Message("assistant", "c"),
        Message("tool", "r" * 30),
        Message("assistant", "a"),
    )
    renderer = Renderer(TOKENIZER, chat_template(SOURCE, TOKENIZER), seq_length=20)
    made = renderer.render(Conversation(talk, ORIGIN))
    text = TOKENIZER.decode(made.sequences[0].ids)
    assert text.startswith("<|u|><|e|><|a|>c<|e|><|t|>r")
    assert text.endswith("r<|e|><|a|>a<|e|>")
    assert len(made.sequences[0].ids) == 20
    assert made.cut.answer_tokens == 0


def test_pure_helpers():
    assert without_oldest_turn(chat("a", "b", system="s")) is None
    assert without_oldest_turn(TALK) == chat("second question", "two", system="sys")
    assert shortened(chat("abc", "d", "ef"), 4, before=3) == (chat("", "d", "f"), 4)
    assert shortened(chat("abc"), 9, before=1) == (chat(""), 3)
    assert (
        truncate.histogram([3, 5, 6, 900], 4)
        == "up to 4: 1, up to 8: 2, up to 1024: 1 tokens (limit 4, longest 900)"
    )
    whole = Sequence(np.arange(10, dtype=np.int32), np.float32([0] + [1] * 9))
    parts = truncate.chunks(whole, 4)
    assert [part.ids.tolist() for part in parts] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert all(part.weights[0] == 0 for part in parts)
