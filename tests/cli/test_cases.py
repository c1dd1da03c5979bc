"""Situations that other tools met with: the real command on each input, and the value that is right."""

import json
from pathlib import Path

import pytest
from tests.conftest import SHARED
from tests.tiny import tiny_model_folder

from luthier.cli.main import main

CASES = SHARED.parent / "cases" / "data"
TEMPLATES = SHARED / "chat_templates"
R1 = CASES / "r1_published.jinja"
QWEN3, GPT_OSS = TEMPLATES / "Qwen-Qwen3-0.6B.jinja", TEMPLATES / "openai-gpt-oss-120b.jinja"
SMOL = TEMPLATES / "HuggingFaceTB-SmolLM3-3B.jinja"
LLAMA31 = TEMPLATES / "meta-llama-Llama-3.1-8B-Instruct.jinja"
LLAMA33 = TEMPLATES / "meta-llama-Llama-3.3-70B-Instruct.jinja"
NEMO = TEMPLATES / "mistralai-Mistral-Nemo-Instruct-2407.jinja"
SMALL = TEMPLATES / "Mistral-Small-3.2-24B-Instruct-2506.jinja"
HERMES = TEMPLATES / "NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja"
GEMMA = TEMPLATES / "google-gemma-2-2b-it.jinja"

pytestmark = pytest.mark.skipif(not CASES.exists(), reason="the shared cases are absent")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("cases"), seed=3, max_position_embeddings=4096)


def run(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    shown = capsys.readouterr()
    return caught.value.code or 0, shown.out, shown.err


def show(capsys, model, name, template=None, *more, row=1):
    """Text and learned text of each sequence of a row, and why it is dropped."""
    words = ["data", "show", CASES / name, "--model", model, f"--row={row}", "--json", *more]
    words += ["--chat_template", template] if template else []
    code, out, err = run(capsys, *words)
    assert code == 0, err
    shown = json.loads(out)
    made = [
        (
            "".join(piece["text"] for piece in pieces),
            "".join(piece["text"] for piece in pieces if piece["weight"]),
        )
        for pieces in shown["sequences"]
    ]
    return made, shown["dropped"], shown["notices"]


def check(capsys, model, name, template=None, *more):
    """The findings of the doctor by their code, and its notices."""
    words = ["data", "check", CASES / name, "--model", model, "--json", *more]
    words += ["--chat_template", template] if template else []
    _, out, _err = run(capsys, *words)
    report = json.loads(out)
    return {finding["code"]: finding for finding in report["findings"]}, report


def refused(capsys, model, name, template=None, *more):
    """What `train` says that does not start."""
    words = ["train", "--model", model, "--dataset", CASES / name, *more]
    words += ["--chat_template", template] if template else []
    code, out, err = run(capsys, *words)
    assert code != 0
    return out + err


def test_inline_thoughts_are_learned_behind_the_prompt_that_opens_their_block(model, capsys):
    ((whole, learned),), dropped, _ = show(capsys, model, "think_inline.jsonl", R1)
    assert dropped is None
    assert "<｜Assistant｜><think>\n" in whole
    assert learned.startswith(
        "Six and six make twelve.\n</think>\n\nTwelve eggs.<｜end▁of▁sentence｜>"
    )
    assert whole.count("<think>") == 1


@pytest.mark.parametrize("template", [LLAMA31, LLAMA33, NEMO, SMALL, HERMES], ids=lambda p: p.stem)
def test_a_sentence_beside_a_call_that_the_template_drops_is_reported(model, capsys, template):
    _, dropped, _ = show(capsys, model, "say_and_call.jsonl", template)
    assert "leaves out the answer of message 2" in dropped
    assert "Let me look that up for you." in dropped
    findings, _ = check(capsys, model, "say_and_call.jsonl", template)
    assert findings["content-lost"]["count"] == 1
    assert "Let me look that up" in refused(capsys, model, "say_and_call.jsonl", template)


def test_reasoning_beside_a_call_is_learned_or_reported(model, capsys):
    made, dropped, _ = show(capsys, model, "think_and_call.jsonl", QWEN3)
    assert dropped is None
    assert "I should ask the weather tool." in made[0][1]
    assert '"city": "Rome"' in made[0][1]
    _, dropped, _ = show(capsys, model, "think_and_call.jsonl", LLAMA31)
    assert "leaves out the reasoning of message 2" in dropped


@pytest.mark.parametrize("template", [GPT_OSS, SMOL, R1], ids=lambda p: p.stem)
def test_a_system_message_in_the_middle_that_is_dropped_is_reported(model, capsys, template):
    findings, _ = check(capsys, model, "mid_system.jsonl", template)
    assert findings["content-lost"]["count"] == 1
    assert "leaves out the text of message" in refused(capsys, model, "mid_system.jsonl", template)


@pytest.mark.parametrize("name", ["loss_false.jsonl", "train_flag.jsonl", "mask_row.jsonl"])
def test_flags_of_other_tools_take_turns_out_of_learning(model, capsys, name):
    ((whole, learned),), dropped, _ = show(capsys, model, name)
    assert dropped is None
    assert "Rock." in whole
    assert learned.startswith("Pear.")
    assert "Rock." not in learned


def test_template_arguments_of_a_row_are_the_row_s_alone(model, capsys):
    ((first, _),), _, _ = show(capsys, model, "row_kwargs.jsonl", QWEN3, row=1)
    ((_second, learned),), _, _ = show(capsys, model, "row_kwargs.jsonl", QWEN3, row=2)
    assert first.endswith("<think>\n\n</think>\n\n4<|im_end|>")
    assert "Two and three." in learned
    findings, _ = check(capsys, model, "row_kwargs.jsonl", QWEN3)
    assert "columns-unused" not in findings


def test_a_key_that_sounds_like_a_flag_is_refused_and_others_are_named(tmp_path, model, capsys):
    turns = [{"role": "user", "content": "Name a fruit."}]
    file = tmp_path / "rows.jsonl"
    answer = {"role": "assistant", "content": "Pear.", "emotion": "calm"}
    file.write_text(json.dumps({"messages": [*turns, answer]}) + "\n")
    findings, _ = check(capsys, model, file)
    assert "messages[].emotion" in findings["columns-unused"]["detail"]
    file.write_text(json.dumps({"messages": [*turns, {**answer, "is_masked": True}]}) + "\n")
    assert "sounds as if it changed what is learned" in refused(capsys, model, file)


@pytest.mark.parametrize(
    ("name", "template"),
    [("dpo_reasoning.jsonl", None), ("dpo_think_inline.jsonl", GPT_OSS.with_name("none.jinja"))],
)
def test_a_pair_whose_sides_differ_in_what_is_dropped_is_not_trained(
    tmp_path, model, capsys, name, template
):
    if template is not None:  # a template that writes what stands behind the thought alone
        template = tmp_path / "behind.jinja"
        template.write_text(
            "{% for m in messages %}{{ m.role + ':' + m.content.split('</think>')[-1] + eos_token }}"
            "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
        )
    findings, _report = check(capsys, model, name, template, "--objective", "dpo")
    assert findings["content-lost"]["count"] == 20
    assert "leaves out the reasoning" in refused(
        capsys, model, name, template, "--objective", "dpo"
    )


def test_the_sides_of_a_pair_are_compared_after_the_cut(model, capsys):
    more = ("--objective", "dpo", "--seq_length", "128")
    _, dropped, _ = show(capsys, model, "dpo_same_after_cut.jsonl", None, *more)
    assert "the same 128 tokens after the cut to seq_length" in dropped
    said = refused(capsys, model, "dpo_same_after_cut.jsonl", None, *more)
    assert "20 of 20 train rows cannot be used" in said
    findings, _ = check(capsys, model, "dpo_same_after_cut.jsonl", None, *more)
    assert findings["chosen-equals-rejected"]["count"] == 20


def test_one_pair_that_collapses_is_named_by_its_line(model, capsys):
    findings, _ = check(capsys, model, "dpo_one_collapses.jsonl", None, "--objective", "dpo")
    said = (
        refused(
            capsys,
            model,
            "dpo_one_collapses.jsonl",
            None,
            "--objective",
            "dpo",
            "--bad_rows",
            "refuse",
        )
        if "chosen-equals-rejected" in findings
        else ""
    )
    assert findings.get("chosen-equals-rejected", {"count": 0})["count"] == said.count(" line ")


@pytest.mark.parametrize("template", [SMOL, QWEN3, R1], ids=lambda p: p.stem)
def test_only_the_end_of_a_thought_is_as_both_tags(model, capsys, template):
    ((one, learned),), dropped, _ = show(capsys, model, "think_closing_only.jsonl", template)
    ((both, _),), _, _ = show(capsys, model, "think_inline.jsonl", template)
    assert dropped is None
    assert one == both
    assert "Six and six make twelve.\n</think>\n\nTwelve eggs." in learned


def test_an_empty_system_turn_is_rendered_as_the_template_renders_one(model, capsys):
    qwen = TEMPLATES / "Qwen-Qwen2.5-7B-Instruct.jinja"
    ((whole, _),), dropped, _ = show(capsys, model, "empty_system.jsonl", qwen)
    assert dropped is None
    assert whole.startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi")
    assert "You are Qwen" not in whole


@pytest.mark.parametrize("name", ["call_plain.jsonl", "call_first.jsonl"])
def test_calls_train_behind_the_prompt_of_inference_with_hermes(model, capsys, name):
    made, dropped, _ = show(capsys, model, name, HERMES)
    assert dropped is None
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}' in made[0][1]
    if name == "call_plain.jsonl":
        assert "No rain in Rome." in made[-1][1]
        assert "</tool_response><|im_end|><|im_start|>assistant\nNo rain" in made[-1][0]


def test_the_model_s_own_template_for_tools_is_taken_for_rows_with_tools(tmp_path, capsys):
    folder = tiny_model_folder(tmp_path, seed=3, max_position_embeddings=4096)
    path = Path(folder) / "tokenizer_config.json"
    config = json.loads(path.read_text())
    default = (
        (Path(folder) / "chat_template.jinja")
        if (Path(folder) / "chat_template.jinja").exists()
        else None
    )
    source = default.read_text() if default else config["chat_template"]
    if default:
        default.unlink()
    own = (CASES / "tool_use.jinja").read_text()
    named = [{"name": "default", "template": source}, {"name": "tool_use", "template": own}]
    path.write_text(json.dumps(config | {"chat_template": named}))
    ((whole, learned),), dropped, _ = show(capsys, folder, "call_plain.jsonl")
    assert dropped is None
    assert "Tools: [" in whole
    assert '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>' in learned
    ((plain, _),), _, _ = show(capsys, folder, "empty_system.jsonl")
    assert "Tools:" not in plain


def test_system_text_in_the_middle_goes_before_the_question_it_stands_before(model, capsys):
    ((whole, _),), dropped, notices = show(capsys, model, "sys_mid.jsonl", GEMMA)
    assert dropped is None
    assert "user\nHi<end_of_turn>" in whole
    assert "user\nFrom now on speak French.\n\nBye" in whole
    assert any("no system role" in notice for notice in notices)
    _, report = check(capsys, model, "sys_mid.jsonl", GEMMA)
    assert any("no system role" in notice for notice in report["notices"])


def test_system_text_without_a_question_is_refused_by_both_where_it_has_no_place(model, capsys):
    findings, _ = check(capsys, model, "sys_no_user.jsonl", GEMMA)
    assert findings["template-refuses"]["count"] == 3
    assert "no user message follows the system text" in refused(
        capsys, model, "sys_no_user.jsonl", GEMMA
    )
