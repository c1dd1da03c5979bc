"""What must hold for every conversation under every template: section by section of the contract."""

import functools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rendering import (
    CONTROL,
    GALLERY,
    NOW,
    ORIGIN,
    SOURCES,
    byte_tokenizer,
    chat_template,
    tokenizer_for,
)

from luthier.data.prepare import fingerprint
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template
from luthier.data.types import BadRow, Conversation, Example, Message, Preference, Text

NAMES = sorted(name for name in SOURCES if "Hermes" not in name) or [
    path.stem for path in GALLERY.glob("*.jinja")
]
MARKUP = (
    "<|im_end|>", "<|im_start|>system\n", "</s>", "<s>", "[INST]", "[/INST]", "<|eot_id|>", "<end_of_turn>",
    "<｜end▁of▁sentence｜>", "<|end|>", "<|return|>", "<", "<|", "|>", "[", "{{ 7*7 }}", "{% for %}", "\x00",
    "é\u0301", "👩‍👩‍👧", "שלום", " ", "\n\n", "\t", "<tool_call>", "\uf5a0",
)  # fmt: skip
WORDS = st.one_of(
    st.sampled_from(MARKUP),
    st.text(max_size=8),
    st.sampled_from(("yes", "a longer word ", "x" * 300)),
)
TEXTS = st.lists(WORDS, max_size=5).map("".join)
SAID = TEXTS.filter(lambda text: text.strip().strip("\uf5a0"))
PROPERTY = settings(max_examples=100, deadline=None)


@st.composite
def conversations(draw, turns=4):
    messages = [Message("system", draw(SAID))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, turns))):
        messages += [Message("user", draw(SAID)), Message("assistant", draw(SAID))]
    return tuple(messages)


@functools.cache
def renderer(name, seq_length=10**6, truncation="prompt_start", train_on=None):
    tokenizer = tokenizer_for(name, SOURCES[name])
    template = chat_template(SOURCES[name], tokenizer)
    return Renderer(
        tokenizer, template, seq_length=seq_length, truncation=truncation, train_on=train_on
    )


def row(messages):
    return Conversation(messages, ORIGIN)


def render(name, messages, **kwargs):
    made = renderer(name, **kwargs).render(row(messages))
    assert isinstance(made, Example), made
    return made


def runs(sequence):
    """Ids of each stretch of learned tokens; answers are never adjacent."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], sequence.weights > 0, [0]])))
    return [sequence.ids[start:stop] for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def control_ids(made, tokenizer):
    known = list(tokenizer.special_tokens.values())
    return [sequence.ids[np.isin(sequence.ids, known)].tolist() for sequence in made.sequences]


@PROPERTY
@given(st.sampled_from(NAMES), conversations())
def test_content_never_makes_or_unmakes_a_control_token(name, messages):
    made = render(name, messages)
    benign = tuple(Message(item.role, "x") for item in messages)
    tokenizer = renderer(name).tokenizer
    assert control_ids(made, tokenizer) == control_ids(render(name, benign), tokenizer)


@PROPERTY
@given(st.sampled_from(NAMES), conversations())
def test_bos_stands_once_and_first_unless_the_template_writes_it_for_every_turn(name, messages):
    bos = renderer(name).tokenizer.bos_id
    for sequence in render(name, messages).sequences:
        at = np.flatnonzero(sequence.ids == bos)
        if bos is None or bos == renderer(name).tokenizer.eos_id:
            continue
        assert at[:1].tolist() in ([0], [])
        assert len(at) <= 1 or name == "llama2"
        assert sequence.weights[0] == 0


@PROPERTY
@given(st.sampled_from(NAMES), conversations())
def test_every_answer_is_learned_with_one_stop_and_nothing_else(name, messages):
    tokenizer, facts = renderer(name).tokenizer, renderer(name).facts
    stop = tokenizer.special_tokens[facts.terminator]
    answers = [item.content for item in messages if item.role == "assistant"]
    found = [run for sequence in render(name, messages).sequences for run in runs(sequence)]
    assert len(found) == len(answers)
    for run, answer in zip(found, answers, strict=True):
        assert run[-1] == stop
        assert run.tolist().count(stop) == 1
        text = tokenizer.decode(run[:-1])
        lead = "" if "think" in facts.lead else facts.lead
        assert text.startswith(lead)
        assert text.removeprefix(lead).strip() == answer.strip()


@PROPERTY
@given(st.sampled_from(NAMES), conversations())
def test_the_prompt_of_inference_begins_the_sequence_of_its_answer(name, messages):
    made = render(name, messages)
    prompt = renderer(name).prompt(messages[:-1])
    last = made.sequences[-1]
    assert last.ids[: len(prompt)].tolist() == prompt.tolist()
    assert (last.weights[len(prompt) :] > 0).any()


@PROPERTY
@given(
    st.sampled_from(NAMES),
    conversations(),
    st.integers(8, 400),
    st.sampled_from(("prompt_start", "answer_end")),
)
def test_truncation_keeps_weights_and_answers_and_counts_what_it_takes(name, messages, limit, rule):
    whole = render(name, messages)
    cut = renderer(name, limit, rule).render(row(messages))
    if isinstance(cut, BadRow):
        assert cut.tokens > limit
        return
    lengths = [len(sequence.ids) for sequence in cut.sequences]
    assert max(lengths) <= limit
    assert all((sequence.weights > 0).any() for sequence in cut.sequences)
    everything = [run.tobytes() for sequence in whole.sequences for run in runs(sequence)]
    for sequence in cut.sequences:
        kept = [run.tobytes() for run in runs(sequence)]
        partial = kept.pop()  # only the last may have lost its end
        assert set(kept) <= set(everything)
        assert any(run.startswith(partial) for run in everything)
    if max(len(sequence.ids) for sequence in whole.sequences) <= limit:
        assert cut.cut is None
        assert fingerprint([cut]) == fingerprint([whole])
    else:
        assert cut.cut is not None
        before = sum(len(sequence.ids) for sequence in whole.sequences)
        assert cut.cut.prompt_tokens + cut.cut.answer_tokens == before - sum(lengths)


@PROPERTY
@given(st.sampled_from(NAMES), conversations(1), SAID, st.integers(20, 300))
def test_both_sides_of_a_pair_are_cut_at_the_same_prompt(name, messages, other, limit):
    pair = Preference(messages[:-1], messages[-1:], (Message("assistant", other),), ORIGIN)
    made = renderer(name, limit).render(pair)
    if isinstance(made, BadRow):
        return
    chosen, rejected = made.sequences
    starts = [int(np.flatnonzero(side.weights)[0]) for side in made.sequences]
    assert starts[0] == starts[1]
    assert chosen.ids[: starts[0]].tolist() == rejected.ids[: starts[0]].tolist()
    if made.cut is not None and made.cut.answer_tokens:  # only when the prompt had nothing left
        text = renderer(name).tokenizer.decode(chosen.ids[: starts[0]])
        user = next(item.content for item in messages if item.role == "user")
        elsewhere = any(user.strip() in item.content for item in messages if item.role == "system")
        elsewhere |= user.strip() in SOURCES[name]
        elsewhere |= bool(CONTROL.search(user))  # written out, it reads like the template's own
        assert elsewhere or len(user.strip()) < 12 or user.strip() not in text


@PROPERTY
@given(st.sampled_from(NAMES), st.lists(conversations(2), min_size=2, max_size=4))
def test_a_row_does_not_depend_on_its_neighbours(name, talks):
    alone = [fingerprint([render(name, messages)]) for messages in talks]
    again = [fingerprint([render(name, messages)]) for messages in reversed(talks)]
    assert alone == again[::-1]


@functools.cache
def plain_renderer(seq_length, objective="sft"):
    tokenizer = byte_tokenizer(("<|im_end|>",), bos="<s>", eos="</s>")
    return Renderer(tokenizer, None, seq_length=seq_length, objective=objective)


@PROPERTY
@given(SAID, st.integers(2, 60))
def test_pieces_of_a_long_text_lose_no_token_and_learn_each_once(text, limit):
    made = plain_renderer(10**6, "text").render(Text(text, ORIGIN))
    if isinstance(made, BadRow):
        assert text.strip() == "</s>"
        return
    (whole,) = made.sequences
    pieces = plain_renderer(limit, "text").render(Text(text, ORIGIN)).sequences
    assert all(2 <= len(piece.ids) <= limit for piece in pieces)
    learned = [piece.ids[piece.weights > 0].tolist() for piece in pieces]
    assert [number for ids in learned for number in ids] == whole.ids[whole.weights > 0].tolist()


def test_a_fallback_template_holds_the_same_promises():
    tokenizer = byte_tokenizer((), eos="</s>")
    template, _ = choose_template(tokenizer, setting=None, gallery_template=None, now=NOW)
    made = Renderer(tokenizer, template).render(
        row((Message("user", "</s>"), Message("assistant", "</s>x")))
    )
    assert control_ids(made, tokenizer) == [[tokenizer.eos_id]]
