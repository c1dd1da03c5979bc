"""Whatever a row says is in its rendering, or the row is refused by name: every template, random rows.

The judge here knows nothing of how the renderer checks: each part of a row carries a word of its own,
and the words are looked for in the decoded ids.  `LUTHIER_ROWS` is how many rows are tried.
"""

import functools
import json
import os
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rendering import ORIGIN, SOURCES, TOOL, chat_template, tokenizer_for

from luthier.data.rendering.render import Renderer
from luthier.data.types import BadRow, Conversation, Example, Message, ToolCall
from luthier.errors import TemplateError

ROWS = int(os.environ.get("LUTHIER_ROWS", "1000"))
KWARGS = ({}, {"enable_thinking": True})
ODD = (
    *("<|im_end|>", "</s>", "[INST]", "<tool_response>", "<|end|>", "{{ 7*7 }}", "e\u0301", "'"),
    *(
        "שלום עולם",
        "தமிழ்",
        "ไทย",
        "한국어",
        "中文。",
        "👩‍👩‍👧",
        "\u200b",
        "  ",
        "\n\n",
        "\t",
        '"',
        "\\",
    ),
)
SEEDS = st.integers(0, 2**48)
CASE = settings(max_examples=ROWS, deadline=None)


class Maker:
    """Random rows in which each text holds one word that no other text of the row holds."""

    def __init__(self, seed):
        self.random, self.count = random.Random(seed), 0

    def odd(self):
        kind = self.random.randrange(4)
        if kind == 0:
            return ""
        if kind == 1:
            return self.random.choice(ODD)
        if kind == 2:
            return chr(self.random.choice((*range(1, 0x250), *range(0x600, 0x700))))
        return chr(self.random.randrange(0xE000, 0x1FFFF)) + self.random.choice(ODD)

    def text(self):
        self.count += 1
        return f"{self.odd()}w{self.count}w{self.odd()}"

    def call(self, number):
        arguments = {"place": self.text(), "days": self.random.randrange(10**12)}
        return ToolCall("weather", arguments, f"call{number:05d}")

    def answers(self, tools):
        """One answer with what follows it: text, a thought in one of three forms, calls, results."""
        form = self.random.choice(("plain", "plain", "field", "inline", "closing"))
        thought = self.text().strip() if form != "plain" else ""
        text = self.text()
        content = {
            "inline": f"<think>\n{thought}\n</think>\n\n{text}",
            "closing": f"{thought}\n</think>\n\n{text}",
        }.get(form, text)
        reasoning = thought if form == "field" else None
        weight = self.random.choice((None, None, None, 0.0))
        calls = self.random.randrange(3) if tools else 0
        if not calls:
            return [Message("assistant", content, weight, reasoning=reasoning)]
        made = tuple(self.call(at) for at in range(calls))
        content = content if self.random.random() < 0.3 else ""
        asked = Message("assistant", content, weight, made, reasoning=reasoning)
        results = [Message("tool", self.text(), tool_call_id=c.id, name=c.name) for c in made]
        return [asked, *results, Message("assistant", self.text())]

    def row(self):
        tools, messages = self.random.random() < 0.5, []
        for at in range(self.random.randrange(1, 4)):
            usual = ("text", "empty", "none") if at == 0 else ("none",) * 6 + ("text",)
            system = self.random.choice(usual)
            if system != "none":
                messages.append(Message("system", self.text() if system == "text" else ""))
            messages.append(Message("user", self.text()))
            messages += self.answers(tools)
        return Conversation(tuple(messages), ORIGIN, (TOOL,) if tools else ())


@functools.cache
def renderer(name, kwargs):
    tokenizer = tokenizer_for(name, SOURCES[name])
    template = chat_template(SOURCES[name], tokenizer, **dict(kwargs))
    return Renderer(tokenizer, template, seq_length=10**6)


def word_of(text):
    found = re.search(r"w\d+w", text)
    return found[0] if found else None


def said(message):
    """Pairs of kind and text, without white space around: what must not be lost."""
    if (message.reasoning or "").strip():
        yield "thought", message.reasoning.strip()
    content = message.content
    if message.role == "assistant" and "</think>" in content and message.reasoning is None:
        thought, _, content = content.partition("</think>")
        yield "thought", thought.removeprefix("<think>").strip()
    if content.strip():
        yield "text", content.strip()
    for one in message.tool_calls:
        yield "text", one.arguments["place"].strip()


def stands(text, where):
    ways = (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1])
    ways += tuple(
        way.replace("<", "\\u003c").replace(">", "\\u003e").replace("'", "\\u0027") for way in ways
    )
    return any(way in where for way in ways)


def read(decode, sequence):
    learned = np.where(sequence.weights > 0)[0]
    return decode(sequence.ids), decode(sequence.ids[learned])


def judge(row, made, decode):
    """Raises where a part of the row is nowhere, or a learned one is not among what is learned."""
    texts = [read(decode, sequence) for sequence in made.sequences]
    whole, everything = texts[-1][0], [learned for _, learned in texts]
    last = max(i for i, m in enumerate(row.messages) if m.role == "assistant" and m.weight != 0)
    for index, message in enumerate(row.messages[: last + 1]):
        for kind, text in said(message):
            if message.role == "assistant" and message.weight != 0:
                assert any(stands(text, learned) for learned in everything), (index, kind, text)
            elif kind == "text":
                assert stands(text, whole), (index, kind, text)
        for one in message.tool_calls:
            assert any(str(one.arguments["days"]) in text for text, _ in texts)
    if row.tools:
        assert "Tells the weather." in whole
    for text, _ in texts:
        for found in re.finditer(r"w\d+w", text):
            parts = [
                (kind, m)
                for m in row.messages
                for kind, part in said(m)
                if word_of(part) == found[0]
            ]
            if parts and parts[0][0] == "text" and parts[0][1].role == "assistant":
                before = text[: found.start()]
                since = before[
                    max(
                        (m.end() for m in re.finditer(r"<\|im_start\|>|<｜User｜>", before)),
                        default=0,
                    ) :
                ]
                opened = since.rfind("<think>") > since.rfind("</think>")
                assert not opened, ("inside a thinking block", parts, text)


def used(name, kwargs, seed):
    """Whether the row of a seed is used; raises where it is and lacks something."""
    maker, row = renderer(name, tuple(kwargs.items())), Maker(seed).row()
    try:
        made = maker.render(row)
    except TemplateError as error:
        if "has no place for" not in error.what:
            raise
        return False
    if isinstance(made, BadRow):
        assert made.kind in ("content-lost", "template-refuses", "no-target")
        assert made.reason
        return False
    judge(row, made, maker.tokenizer.decode)
    return True


@CASE
@given(st.sampled_from(sorted(SOURCES)), st.sampled_from(KWARGS), SEEDS)
def test_what_a_row_says_is_in_its_rendering_or_the_row_is_refused(name, kwargs, seed):
    used(name, kwargs, seed)


@pytest.mark.parametrize("name", [n for n in ("Qwen-Qwen3-0.6B", "llama3") if n in SOURCES])
def test_the_random_rows_are_used_often_enough_to_say_something(name):
    assert sum(used(name, {}, seed) for seed in range(30)) > (25 if "Qwen3" in name else 4)


def plain_rows():
    return Conversation(
        (
            Message("system", "w1w be brief"),
            Message("user", "w2w asked"),
            Message("assistant", "w3w said"),
            Message("user", "w4w again"),
            Message("assistant", "w5w done"),
        ),
        ORIGIN,
    )


@pytest.mark.parametrize("name", sorted(name for name in SOURCES if "Hermes" not in name))
def test_a_plain_row_is_never_refused(name):
    row = plain_rows()
    maker = renderer(name, ())
    made = maker.render(row)
    assert isinstance(made, Example)
    judge(row, made, maker.tokenizer.decode)
    again = maker.render(row)  # its shape is known now: searched, not marked
    assert [s.ids.tolist() for s in again.sequences] == [s.ids.tolist() for s in made.sequences]


DROPS = "{% for m in messages %}{% if m.role != 'system' or loop.first %}{{ m.role + ':' + m.content }}{{ '<|im_end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"


def test_a_text_that_stands_elsewhere_too_is_still_missed_where_it_was_left_out():
    tokenizer = tokenizer_for("x", DROPS)
    maker = Renderer(tokenizer, chat_template(DROPS, tokenizer))
    turns = [("system", "user"), ("user", "assistant"), ("assistant", "Yes."), ("system", "user")]
    turns += [("user", "user"), ("assistant", "user")]
    made = maker.render(Conversation(tuple(Message(*turn) for turn in turns), ORIGIN))
    assert isinstance(made, BadRow)
    assert made.kind == "content-lost"
    assert "message 4 (system)" in made.reason


def test_a_shape_that_was_proven_does_not_hide_what_a_template_drops_by_its_text():
    source = DROPS.replace("m.content }}", "m.content.replace('secret', '') }}")
    tokenizer = tokenizer_for("x", source)
    maker = Renderer(tokenizer, chat_template(source, tokenizer))
    fine = Conversation((Message("user", "a question"), Message("assistant", "open")), ORIGIN)
    lost = Conversation(
        (Message("user", "a question"), Message("assistant", "a secret word")), ORIGIN
    )
    assert isinstance(maker.render(fine), Example)
    made = maker.render(lost)
    assert isinstance(made, BadRow)
    assert "leaves out the answer of message 2" in made.reason
