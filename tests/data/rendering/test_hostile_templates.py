"""Templates of strangers end within their limits, by count and not by luck, with one sentence."""

import datetime
import resource
import time

import pytest
from tests.data.rendering.hostile import HOSTILE
from tests.rendering import byte_tokenizer

from luthier.data.rendering import values
from luthier.data.rendering.template import ChatTemplate
from luthier.errors import TemplateError

TOKENIZER = byte_tokenizer(("<|im_start|>", "<|im_end|>"), eos="<|im_end|>")
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
MESSAGES = [{"role": "user", "content": "Hello"}]


def render(source):
    template = ChatTemplate(source, tokenizer=TOKENIZER, now=NOW)
    return template.render_dicts(MESSAGES, [], add_generation_prompt=True)


@pytest.fixture
def tenth(monkeypatch):
    """A tenth of the limits: what is counted ends ten times as soon, what is not does not."""
    monkeypatch.setattr(values, "TEMPLATE_WORK", values.TEMPLATE_WORK // 10)
    monkeypatch.setattr(values, "TEMPLATE_TEXT", values.TEMPLATE_TEXT // 10)


@pytest.mark.usefixtures("tenth")
@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_template_ends_soon_with_a_sentence(source):
    began = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ [3, 1, 2]|sort|join(',') }}", "1,2,3"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}", "1"),
        ("{{ ['a', 'b', 'a']|unique|list }}", "['a', 'b']"),
        ("{{ [1, 2, 3]|sum }}", "6"),
        ("{{ [1, 2, 3]|slice(2)|list }}", "[[1, 2], [3]]"),
        ("{{ [1, 2, 3]|batch(2, 0)|list }}", "[[1, 2], [3, 0]]"),
        ("{{ 2.567|round(1) }}", "2.6"),
        ("{{ {'b': 1, 'a': [1.5, none, true]}|tojson }}", '{"b": 1, "a": [1.5, null, true]}'),
        ("{{ {(1, 2): 'x'}[(1, 2)] }}", "x"),
        ("{{ 'a b  c'.split()|length }}{{ 'a,b'.split(',')[1] }}", "3b"),
        ("{{ none }}{{ missing }}{{ true }}{{ 1.0 }}{{ [] }}", "NoneTrue1.0[]"),
        ("{{ 'x' ~ 1 ~ none }}", "x1None"),
        ("{% set a = 3 %}{{ 1 < a <= 3 and 'l' in 'Hello' and a is not none }}", "True"),
        ("{{ messages[0]['role'] ~ messages[-1:]|length }}", "user1"),
        ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
        ("{{ '  x '|trim|upper|replace('X', 'y') }}", "y"),
        ("{{ {'a': 1}.items()|list }}{{ {'a': 1}|dictsort }}", "[('a', 1)][('a', 1)]"),
    ],
)
def test_what_templates_use_works_as_in_jinja(source, text):
    assert render(source) == text


def test_a_place_in_memory_is_never_written_out():
    with pytest.raises(TemplateError, match="writes out"):
        render("{{ messages[0].keys }}")
