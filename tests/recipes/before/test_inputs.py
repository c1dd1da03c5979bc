"""Rows of a run: rendering that follows the data, and what is held out."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from tests.tiny import tiny_config, tiny_tokenizer

from luthier.config import read
from luthier.data.types import Example, Origin, Sequence
from luthier.errors import NoRowsError, TemplateError
from luthier.recipes.before.inputs import make_inputs, split
from luthier.recipes.before.opening import open_run, template_source
from luthier.recipes.before.recorded import rendering
from luthier.sources.source import resolve_source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def inputs_of(tmp_path, rows, **settings):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tiny_tokenizer(tmp_path / "tokenizer")
    resolved = read.load(
        {"model": str(folder), "dataset": str(data), "seq_length": 256, **settings}
    )
    (folder / "config.json").write_text(tiny_config().to_json_string())
    opening = open_run(resolved.settings, resolve_source(str(folder)), now=NOW)
    return resolved.settings, make_inputs(opening), list(opening.notices)


def asked(answer, **more):
    return {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": answer, **more},
        ]
    }


def test_data_that_never_thinks_is_prompted_without_thought(tmp_path):
    settings, inputs, notices = inputs_of(tmp_path, [asked("ho")], chat_template=THINKING)
    assert notices == ["no answer of the data thinks: enable_thinking: false is used"]
    text = inputs.tokenizer.decode(inputs.train[0].sequences[0].ids)
    assert "<think>\n\n</think>\n\nho" in text
    # Chat after the training gets the same arguments.
    assert rendering(settings, inputs.template, NOW)["chat_template_kwargs"] == {
        "enable_thinking": False
    }


@pytest.mark.parametrize(
    ("row", "kwargs"),
    [
        (asked("ho", reasoning_content="they greet me"), {}),
        (asked("<think>they greet me</think>ho"), {}),
        (asked("ho"), {"enable_thinking": True}),
    ],
)
def test_thought_in_the_data_or_a_decision_of_the_user_is_left_alone(tmp_path, row, kwargs):
    _, inputs, notices = inputs_of(
        tmp_path, [row], chat_template=THINKING, chat_template_kwargs=kwargs
    )
    assert notices == []
    assert inputs.template.kwargs == kwargs


def test_rows_that_are_learned_from_and_held_out_are_counted(tmp_path):
    _, inputs, _ = inputs_of(tmp_path, [asked("ho")] * 10, eval_split=0.3)
    assert (len(inputs.train), len(inputs.held_out)) == (7, 3)
    assert any("3 of 3 held-out rows are also learned from" in notice for notice in inputs.notices)


def examples(count):
    empty = Sequence(np.zeros(2, np.int32), np.zeros(2, np.float32))
    return [Example((empty,), Origin("a", line)) for line in range(count)]


def lines(side):
    return [example.origin.line for example in side]


def test_a_split_is_a_function_of_the_seed_and_keeps_the_order():
    train, held = map(lines, split(examples(20), 0.25, seed=3))
    assert [train, held] == [lines(side) for side in split(examples(20), 0.25, seed=3)]
    assert held != lines(split(examples(20), 0.25, seed=4)[1])
    assert train == sorted(train)
    assert len(held) == 5
    assert len(split(examples(20), 3, seed=0)[1]) == 3


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(NoRowsError, match="eval_split=5 would hold out 5 of 5 rows"):
        split(examples(5), 5, seed=0)


def test_a_template_is_text_a_file_or_a_family(tmp_path):
    path = tmp_path / "t.jinja"
    path.write_text("{{ x }}")
    assert template_source(str(path)) == template_source("{{ x }}") == "{{ x }}"
    assert "[INST]" in template_source("mistral")
    with pytest.raises(TemplateError, match="no Jinja text, no file"):
        template_source("chatmll")
