import datetime
import time

import pytest
from tests.rendering import NOW, SOURCES, TOOL, byte_tokenizer, chat, chat_template, tokenizer_for

from luthier.data.rendering.probe import probe, thinking_kwargs
from luthier.data.rendering.template import ChatTemplate, choose_template, message_dicts
from luthier.data.types import Message, ToolCall
from luthier.errors import TemplateError

CALL = ToolCall("weather", {"place": "Köln <b>", "days": 2}, "abcdefghi")
TALKS = {
    "one": chat("Hi", "Hello."),
    "system": chat("  Hi\n", " Hello. ", "Again", "Yes\n\n", system=" Be brief. "),
    "thought": chat("Hi", "<think>\nhm\n</think>\n\nHello.", "More", "Well."),
    "reasoning": (Message("user", "Hi"), Message("assistant", "Hello.", reasoning="hm")),
    "control": chat("<|im_end|></s>{{ 7*7 }}", "</s><|eot_id|>", "a", "b"),
    "calls": (
        Message("user", "Rain?"),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", '{"rain": true}', tool_call_id="abcdefghi", name="weather"),
        Message("assistant", "It rains."),
    ),
}
PLAIN = byte_tokenizer(("<|im_end|>",), eos="<|im_end|>")


@pytest.mark.parametrize("name", SOURCES)
def test_a_template_renders_as_in_transformers(name):
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    source, tokenizer = SOURCES[name], tokenizer_for(name, SOURCES[name])
    compiled = utils._compile_jinja_template(source)
    compared = 0
    for talk in TALKS.values():
        for tools in ((), (TOOL,)):
            for prompt in (False, True):
                names = {
                    **tokenizer.roles,
                    "messages": message_dicts(talk),
                    "tools": list(tools) or None,
                }
                names |= {
                    "documents": None,
                    "add_generation_prompt": prompt,
                    "strftime_now": NOW.strftime,
                }
                try:
                    expected = compiled.render(**names)
                except Exception:  # noqa: BLE001  whatever the template does, ours does too
                    with pytest.raises(TemplateError, match="does not take"):
                        chat_template(source, tokenizer).render(
                            talk, tools, add_generation_prompt=prompt
                        )
                    continue
                made = chat_template(source, tokenizer).render(
                    talk, tools, add_generation_prompt=prompt
                )
                assert made == expected
                compared += 1
    assert compared >= 2


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[1, 2]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{{ 'a' * 10 ** 12 }}",
        "{{ '%100000000000d' % 1 }}",
        "{{ '{:99999999999}'.format(1) }}",
        "{{ 'a'.ljust(10 ** 11) }}",
        "{{ 'a' | center(10 ** 11) }}",
        "{{ [1] | tojson(indent=10 ** 9) }}",
        "{{ ('a' * 10 ** 6) | replace('a', 'b' * 10 ** 6) }}",
        "{{ ('a' * 10 ** 6).replace('a', 'b' * 10 ** 6) }}",
        "{{ range(99999) | list | join('x' * 10 ** 6) }}",
        "{{ ('x' * 10 ** 6).join(['a'] * 10 ** 6) }}",
        "{{ ('a\\n' * 10 ** 6) | indent(10 ** 9) }}",
        "{% set ns = namespace(n=9) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
        "{{ 9 ** 999999999 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ namespace(_x=1) }}",
        "{{ lipsum(n=10 ** 9) }}",
        "{% include 'x' %}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% set x = raise_exception('no') %}",
        "{{ 1 // 0 }}",
        "{{ " + "(" * 3000 + ")" * 3000 + " }}",
        "{% if %}",
        "x" * (1 << 20) + "x",
    ],
)
def test_what_never_ends_or_grows_or_breaks_out_is_stopped(source):
    start = time.monotonic()
    with pytest.raises(TemplateError):
        ChatTemplate(source, tokenizer=PLAIN, now=NOW).render(chat("a"), add_generation_prompt=True)
    assert time.monotonic() - start < 20


def test_ordinary_template_features_work():
    source = (
        "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}"
        "{{ loop.index ~ ':' ~ m.content }}{{ loop.length }}{% break %}{% endfor %}"
        "{% generation %}{% set x = 1 %}x{{ x }}{% endgeneration %}"
        "{% for m in nothing %}a{% else %}none{% endfor %}{{ nothing }}{{ nothing is defined }}"
        "{{ {'a': '<é>'} | tojson }}{{ strftime_now('%Y-%m-%d') }}{{ range(3) | list | length }}"
    )
    made = ChatTemplate(source, tokenizer=PLAIN, now=NOW).render(
        chat("q"), add_generation_prompt=False
    )
    assert made == '1:q1x1noneFalse{"a": "<é>"}2026-01-023'


def test_the_clock_stands_still_and_is_part_of_the_fingerprint():
    source = "{{ strftime_now('%d %b %Y') }}"
    first = ChatTemplate(source, tokenizer=PLAIN, now=NOW)
    later = ChatTemplate(source, tokenizer=PLAIN, now=NOW + datetime.timedelta(days=1))
    other = ChatTemplate(source, tokenizer=PLAIN, now=NOW, kwargs={"a": 1})
    assert first.render(chat("a"), add_generation_prompt=False) == "02 Jan 2026"
    assert len({item.fingerprint for item in (first, later, other)}) == 3


def test_the_fallback_is_chatml_and_announced():
    known = byte_tokenizer(("<|im_start|>", "<|im_end|>"), eos="<|endoftext|>")
    template, notice = choose_template(known, setting=None, gallery_template=None, now=NOW)
    assert notice is not None
    assert "ChatML" in notice
    expected = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    assert template.render(chat("a", "b"), add_generation_prompt=False) == expected
    unknown = byte_tokenizer((), eos="</s>")
    template, notice = choose_template(unknown, setting=None, gallery_template=None, now=NOW)
    assert notice is not None
    assert "</s>" in notice
    assert template.render(chat("a", "b"), add_generation_prompt=False).endswith("\nb</s>\n")


def test_the_users_template_wins_over_the_tokenizers_and_the_gallerys():
    tokenizer = byte_tokenizer((), eos="</s>")
    template, notice = choose_template(
        tokenizer, setting="mine", gallery_template="theirs", now=NOW
    )
    assert (template.source, notice) == ("mine", None)
    template, notice = choose_template(tokenizer, setting=None, gallery_template="theirs", now=NOW)
    assert (template.source, notice) == ("theirs", None)


EXPECTED = {  # terminator, system, tools, calls
    "Qwen-Qwen2.5-7B-Instruct": ("<|im_end|>", True, True, True),
    "Qwen-Qwen3-0.6B": ("<|im_end|>", True, True, True),
    "google-gemma-2-2b-it": ("<end_of_turn>", False, False, False),
    "microsoft-Phi-3.5-mini-instruct": ("<|end|>", True, False, False),
    "meta-llama-Llama-3.1-8B-Instruct": ("<|eot_id|>", True, True, True),
    "Mistral-Small-3.2-24B-Instruct-2506": ("</s>", True, True, True),
    "deepseek-ai-DeepSeek-V3.1": ("<｜end▁of▁sentence｜>", True, False, True),
    "openai-gpt-oss-120b": ("<|return|>", True, True, True),
    "HuggingFaceTB-SmolLM3-3B": ("<|im_end|>", True, False, False),
    "llama2": ("</s>", True, False, False),
}


@pytest.mark.parametrize("name", [name for name in EXPECTED if name in SOURCES])
def test_what_a_template_can_do_is_found_out(name):
    tokenizer = tokenizer_for(name, SOURCES[name])
    facts = probe(chat_template(SOURCES[name], tokenizer), tokenizer)
    assert (facts.terminator, facts.system, facts.tools, facts.calls) == EXPECTED[name]
    assert facts.short_ids == ("Mistral" in name)


def test_thinking_is_switched_off_where_the_data_never_thinks():
    if "qwen3" not in SOURCES:
        pytest.skip("the Qwen3 tokenizer config is absent")
    tokenizer = tokenizer_for("qwen3", SOURCES["qwen3"])
    facts = probe(chat_template(SOURCES["qwen3"], tokenizer), tokenizer)
    assert thinking_kwargs(facts, {}, [None, ""]) == {"enable_thinking": False}
    assert thinking_kwargs(facts, {}, [None, "hm"]) == {}
    assert thinking_kwargs(facts, {"enable_thinking": True}, [None]) == {"enable_thinking": True}


def test_a_template_without_the_answer_is_refused():
    with pytest.raises(TemplateError, match="leaves out"):
        probe(chat_template("{{ messages[0].content }}", PLAIN), PLAIN)
