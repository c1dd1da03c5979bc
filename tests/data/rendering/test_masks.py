"""What carries loss, template by template: the answer, its terminator once, and nothing else."""

import pytest
from tests.conftest import SHARED
from tests.rendering import (
    NOW,
    ORIGIN,
    SOURCES,
    TOOL,
    byte_tokenizer,
    chat,
    chat_template,
    tokenizer_for,
)

from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import BadRow, Conversation, Message, Preference, ToolCall
from luthier.errors import TemplateError

CALL = ToolCall("weather", {"place": "<|im_end|></s>"})
NEEDS_TOOLS = ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use",)


def renderer_for(name, **settings):
    kwargs = settings.pop("kwargs", {})
    tokenizer = settings.pop("tokenizer", None) or tokenizer_for(name, SOURCES[name])
    template = chat_template(SOURCES[name], tokenizer, **kwargs)
    return Renderer(tokenizer, template, seq_length=100_000, **settings)


def learned(pieces):
    """The texts that carry loss, neighbours joined."""
    runs, open_ = [], False
    for piece in pieces:
        if piece.weight and open_:
            runs[-1] += piece.text
        elif piece.weight:
            runs.append(piece.text)
        open_ = bool(piece.weight)
    return runs


def row(messages, *tools):
    return Conversation(messages, ORIGIN, tools)


@pytest.mark.parametrize("name", SOURCES)
def test_each_answer_is_learned_with_its_terminator_once(name):
    renderer = renderer_for(name)
    tools = (TOOL,) if name in NEEDS_TOOLS else ()
    answers = ["Hello there.", "Second answer.", "Third."]
    messages = chat("Hi", answers[0], "More?", answers[1], "And?", answers[2])
    drafts = renderer.explain(row(messages, *tools))
    runs = [run for pieces in drafts for run in learned(pieces)]
    assert len(runs) == 3
    stop = renderer.facts.terminator
    for run, answer in zip(runs, answers, strict=True):
        lead = renderer.facts.lead if "think" not in renderer.facts.lead else ""
        assert run.endswith(stop)
        assert run.count(stop) == 1
        assert run.removesuffix(stop).removeprefix(lead).strip() == answer
        assert renderer.tokenizer.special_tokens[stop] in renderer.stop_ids


GOLDEN = {
    "Qwen-Qwen2.5-7B-Instruct": ["Yes.<|im_end|>", "No.<|im_end|>"],
    "Qwen-Qwen3-0.6B": ["Yes.<|im_end|>", "No.<|im_end|>"],
    "HuggingFaceTB-SmolLM3-3B": ["Yes.<|im_end|>", "No.<|im_end|>"],
    "llama2": [" Yes. </s>", " No. </s>"],
    "mistral": [" Yes.</s>", " No.</s>"],
    "google-gemma-2-2b-it": ["Yes.<end_of_turn>", "No.<end_of_turn>"],
    "microsoft-Phi-3.5-mini-instruct": ["Yes.<|end|>", "No.<|end|>"],
    "phi3": ["Yes.<|end|>", "No.<|end|>"],
    "phi4": ["Yes.<|end|>", "No.<|end|>"],
    "minimind": ["Yes.<|im_end|>", "No.<|im_end|>"],
    "meta-llama-Llama-3.1-8B-Instruct": ["Yes.<|eot_id|>", "No.<|eot_id|>"],
    "deepseek-ai-DeepSeek-V3.1": ["Yes.<｜end▁of▁sentence｜>", "No.<｜end▁of▁sentence｜>"],
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": [
        "Yes.<｜end▁of▁sentence｜>",
        "No.<｜end▁of▁sentence｜>",
    ],
    "mistralai-Mistral-Nemo-Instruct-2407": ["Yes.</s>", "No.</s>"],
    "Mistral-Small-3.2-24B-Instruct-2506": ["Yes.</s>", "No.</s>"],
    "openai-gpt-oss-120b": [
        f"<|channel|>final<|message|>{text}<|return|>" for text in ("Yes.", "No.")
    ],
}


@pytest.mark.parametrize("name", [name for name in GOLDEN if name in SOURCES])
def test_golden_masks(name):
    drafts = renderer_for(name).explain(row(chat("Hi", "Yes.", "Why?", "No.")))
    assert [run for pieces in drafts for run in learned(pieces)] == GOLDEN[name]


@pytest.mark.parametrize("name", SOURCES)
def test_the_prompt_of_inference_is_the_prefix_of_training(name):
    renderer = renderer_for(name)
    tools = (TOOL,) if name in NEEDS_TOOLS else ()
    messages = chat("Hi", "  Hello there.\n", "More?", "Second answer.")
    made = renderer.render(row(messages, *tools))
    for sequence, upto in zip(reversed(made.sequences), (3, 1), strict=False):
        prompt = renderer.prompt(messages[:upto], tools)
        first = int((sequence.weights > 0).nonzero()[0][0]) if upto == 1 else len(prompt)
        assert sequence.ids[: len(prompt)].tolist() == prompt.tolist()
        assert first >= len(prompt)


def test_templates_that_rewrite_earlier_turns_make_one_sequence_an_answer():
    renderer = renderer_for("Qwen-Qwen3-0.6B")
    made = renderer.render(row(chat("Hi", "Yes.", "Why?", "No.")))
    assert len(made.sequences) == 2
    assert len(renderer_for("llama2").render(row(chat("Hi", "Yes.", "Why?", "No."))).sequences) == 1


def test_an_empty_thinking_block_is_never_learned_and_a_thought_is():
    for kwargs in ({}, {"enable_thinking": False}):
        renderer = renderer_for("Qwen-Qwen3-0.6B", kwargs=kwargs)
        (pieces,) = renderer.explain(row(chat("Hi", "Yes.")))
        assert learned(pieces) == ["Yes.<|im_end|>"]
        assert "<think>\n\n</think>\n\n" in "".join(
            piece.text for piece in pieces if not piece.weight
        )
    renderer = renderer_for("Qwen-Qwen3-0.6B")
    thought = (Message("user", "Hi"), Message("assistant", "Yes.", reasoning="hm"))
    assert learned(renderer.explain(row(thought))[0]) == ["<think>\nhm\n</think>\n\nYes.<|im_end|>"]
    inline = chat("Hi", "<think>\nhm\n</think>\n\nYes.")
    pieces = renderer.explain(row(inline))[0]
    assert learned(pieces) == ["<think>\nhm\n</think>\n\nYes.<|im_end|>"]
    assert renderer.tokenizer.special_tokens["<think>"] in [int(piece.ids[0]) for piece in pieces]


def test_tool_calls_are_learned_and_results_are_not():
    talk = (
        Message("user", "Rain?"),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("tool", "wet <|im_end|>"),
        Message("assistant", "It rains."),
    )
    expected = {
        "Qwen-Qwen2.5-7B-Instruct": '<tool_call>\n{"name": "weather", "arguments": {"place": "<|im_end|></s>"}}\n</tool_call><|im_end|>',
        "Mistral-Small-3.2-24B-Instruct-2506": '[TOOL_CALLS]weather[CALL_ID]call00000[ARGS]{"place": "<|im_end|></s>"}</s>',
        "meta-llama-Llama-3.2-3B-Instruct": '{"name": "weather", "parameters": {"place": "<|im_end|></s>"}}<|eot_id|>',
        "openai-gpt-oss-120b": ' to=functions.weather<|channel|>commentary json<|message|>{"place": "<|im_end|></s>"}<|call|>',
    }
    for name, text in expected.items():
        if name not in SOURCES:
            pytest.skip("the shared templates are absent")
        renderer = renderer_for(name)
        pieces = [piece for draft in renderer.explain(row(talk, TOOL)) for piece in draft]
        runs = learned(pieces)
        assert runs[0] == text
        assert "It rains." in runs[-1]
        assert len(runs) == 2


def test_what_a_template_would_leave_out_is_refused_by_name():
    talk = (Message("user", "Rain?"), Message("assistant", "", tool_calls=(CALL,)))
    with pytest.raises(TemplateError, match="the tools offered, tool calls"):
        renderer_for("llama2").render(row(talk, TOOL))


def test_system_text_goes_where_the_template_wants_it():
    for name, expected in {
        "llama2": "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]",
        "google-gemma-2-2b-it": "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n",
        "microsoft-Phi-3.5-mini-instruct": "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n",
    }.items():
        if name not in SOURCES:
            continue
        renderer = renderer_for(name, system_prompt="Be brief.")
        pieces = renderer.explain(row(chat("Hi", "Yes.")))[0]
        assert "".join(piece.text for piece in pieces if not piece.weight) == expected
        assert renderer.tokenizer.decode(renderer.prompt(chat("Hi"))) == expected
        own = renderer.explain(row(chat("Hi", "Yes.", system="Mine.")))[0]
        assert "Be brief." not in "".join(piece.text for piece in own)
        assert renderer.counts["own_system_prompt"] == 1
        assert bool(renderer.notices) == ("gemma" in name)


def test_weights_and_train_on():
    messages = (
        Message("user", "a"),
        Message("assistant", "zero", weight=0.0),
        Message("user", "b"),
        Message("assistant", "half", weight=0.5),
        Message("user", "c"),
        Message("assistant", "full"),
        Message("user", "never answered"),
    )
    by_setting = {}
    for setting in (None, "assistant", "last_assistant", "all"):
        renderer = renderer_for("llama2", train_on=setting)
        (pieces,) = renderer.explain(row(messages))
        assert "never answered" not in "".join(piece.text for piece in pieces)
        found = {
            word: piece.weight
            for piece in pieces
            for word in ("zero", "half", "full", " b ")
            if word in piece.text
        }
        by_setting[setting] = found
    assert (
        by_setting[None] == by_setting["assistant"] == {"zero": 0, "half": 0.5, "full": 1, " b ": 0}
    )
    assert by_setting["last_assistant"] == {"zero": 0, "half": 0, "full": 1, " b ": 0}
    assert by_setting["all"] == {"zero": 0, "half": 0.5, "full": 1, " b ": 1}


def test_the_end_is_learned_where_pad_and_end_are_the_same_token():
    tokenizer = byte_tokenizer(("<|im_start|>",), eos="<|im_end|>", pad="<|im_end|>")
    template, _ = choose_template(tokenizer, setting=None, gallery_template=None, now=NOW)
    sequence = Renderer(tokenizer, template).render(row(chat("a", "b"))).sequences[0]
    assert tokenizer.pad_id == tokenizer.eos_id == sequence.ids[-1]
    assert sequence.weights[-1] == 1


def test_a_vocabulary_without_chatml_stops_with_its_own_end_token():
    tokenizer = byte_tokenizer((), eos="</s>")
    template, _ = choose_template(tokenizer, setting=None, gallery_template=None, now=NOW)
    renderer = Renderer(tokenizer, template)
    (pieces,) = renderer.explain(row(chat("a", "b", "c", "d")))
    assert learned(pieces) == ["b</s>", "d</s>"]
    assert pieces[-1].ids.tolist() == [tokenizer.eos_id]


def test_an_end_token_is_added_once_where_the_template_writes_none():
    source = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    tokenizer = byte_tokenizer((), eos="</s>")
    renderer = Renderer(tokenizer, chat_template(source, tokenizer))
    (pieces,) = renderer.explain(row(chat("a", "b")))
    assert learned(pieces) == ["b\n</s>"]
    assert renderer.notices


def test_a_header_that_is_no_generation_prompt_is_not_learned():
    source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    tokenizer = byte_tokenizer(("<|im_start|>",), eos="<|im_end|>")
    renderer = Renderer(tokenizer, chat_template(source, tokenizer))
    assert learned(renderer.explain(row(chat("a", "b")))[0]) == ["b<|im_end|>"]
    assert renderer.tokenizer.decode(renderer.prompt(chat("a"))).endswith("<|im_start|>assistant\n")


def test_both_sides_of_a_pair_have_the_same_prompt():
    for name in SOURCES:
        renderer = renderer_for(name, objective="dpo")
        tools = (TOOL,) if name in NEEDS_TOOLS else ()
        answers = (Message("assistant", " Good."),), (Message("assistant", "\n\nGo away."),)
        pair = Preference(chat("Hi", "Hello.", "Help?"), *answers, ORIGIN, tools)
        chosen, rejected = renderer.render(pair).sequences
        starts = [int((side.weights > 0).nonzero()[0][0]) for side in (chosen, rejected)]
        assert starts[0] == starts[1]
        assert chosen.ids[: starts[0]].tolist() == rejected.ids[: starts[0]].tolist()
        texts = [
            renderer.tokenizer.decode(side.ids[side.weights > 0]) for side in (chosen, rejected)
        ]
        assert "Good." in texts[0]
        assert "Go away." in texts[1]
        assert "Hello." not in texts[0]


def test_rows_that_say_nothing_are_bad_rows():
    renderer = renderer_for("llama2")
    for messages in (chat("Hi"), chat("Hi", " \n"), chat()):
        assert isinstance(renderer.render(row(messages)), BadRow)
    same = (Message("assistant", "a"),)
    assert "same" in renderer.render(Preference(chat("Hi"), same, same, ORIGIN)).reason
    empty = (Message("assistant", " "),)
    assert (
        "rejected is empty" in renderer.render(Preference(chat("Hi"), same, empty, ORIGIN)).reason
    )
    twice = (Message("user", "a"), Message("user", "b"), Message("assistant", "c"))
    assert "in turn" in renderer.render(row(twice)).reason


@pytest.mark.parametrize("name", ["llama2", "phi3", "minimind", "qwen2.5", "llama3"])
def test_ids_are_those_of_the_whole_text_for_benign_rows(name, built):
    if name in ("qwen2.5", "llama3"):
        tokenizer = built(name)
    elif SHARED.exists():
        tokenizer = Tokenizer.from_folder(SHARED / "tokenizers" / name)
    else:
        pytest.skip(f"{SHARED} is absent")
    source = {"llama3": SOURCES.get("meta-llama-Llama-3.1-8B-Instruct")}.get(name) or SOURCES[name]
    template = chat_template(source, tokenizer)
    renderer = Renderer(tokenizer, template, seq_length=100_000)
    system = "Answer in verse." if renderer.facts.system else None
    messages = chat(
        "What is 12 + 30?", "It is 42, of course.", "Größe? 你好 👩‍💻", "Yes!\nDone.", system=system
    )
    (sequence,) = renderer.render(row(messages)).sequences
    whole = template.render(messages, add_generation_prompt=False)
    expected = tokenizer.encode(whole, parse_special=True).tolist()
    assert sequence.ids.tolist() == expected[: len(sequence.ids)]
    assert expected.count(tokenizer.bos_id) == sequence.ids.tolist().count(tokenizer.bos_id)
