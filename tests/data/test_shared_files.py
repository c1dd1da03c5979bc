"""Every file of real training rows loads, or is refused with what would make it load."""

import ast
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from luthier.data.load import load_samples
from luthier.data.types import Conversation, Feedback, Preference, Text
from luthier.errors import EncodingError, FormatError

Shared = Callable[[str], Path]

SFT = [
    ("sft/alpaca_en_demo.json", "alpaca", 800, 0),
    ("sft/alpaca_zh_demo.json", "alpaca", 800, 0),
    ("sft/content_parts_messages.jsonl", "messages", 350, 0),
    ("sft/dolly_sample.json", "dolly", 12, 0),
    ("sft/facqa_id_alpaca.jsonl", "alpaca", 1500, 0),
    ("sft/gpteacher_roleplay.json", "alpaca", 1000, 0),
    ("sft/huatuo_zh_alpaca.jsonl", "alpaca", 3000, 0),
    ("sft/identity.json", "alpaca", 91, 0),
    ("sft/medical_zh_sharegpt.jsonl", "conversations", 800, 0),
    ("sft/oasst_guanaco.jsonl", "text (guanaco)", 620, 0),
    ("sft/oasst_llama2_chat.jsonl", "text (llama2)", 620, 0),
    ("sft/oasst_llama2_chat.txt", "text (llama2)", 200, 0),
    ("sft/openai_toy_chat.jsonl", "messages", 5, 0),
    ("sft/sharegpt_fastchat_dummy.json", "conversations", 400, 0),
    ("sft/sharegpt_zh.jsonl", "conversations", 599, 1),
    ("sft/tcm_medical_case.json", "alpaca", 380, 0),
    ("sft/tcm_ner.json", "alpaca", 379, 1),
    ("sft/tcm_rc.json", "alpaca", 380, 0),
    ("sft/tcm_recommend.json", "alpaca", 380, 0),
    ("sft/tinker_conversations.jsonl", "messages", 128, 0),
    ("toolcall/glaive_toolcall_en.json", "conversations", 240, 0),
    ("toolcall/glaive_toolcall_zh.json", "conversations", 240, 0),
    ("toolcall/gpteacher_toolformer.json", "alpaca", 600, 0),
    ("toolcall/sgd_openai_messages.jsonl", "messages", 170, 0),
]
DPO = [
    ("preference/chosen_rejected_messages.jsonl", "chosen_messages_rejected_messages", 10, 0),
    ("preference/dpo_en_demo.json", "conversations_chosen_rejected", 240, 0),
    ("preference/dpo_zh_500.jsonl", "conversations_chosen_rejected", 400, 0),
    ("preference/dpo_zh_demo.json", "conversations_chosen_rejected", 240, 0),
    ("preference/hh_rlhf_harmless.jsonl", "chosen_rejected", 798, 2),
    ("preference/stack_exchange_paired.json", "stack_exchange", 15, 0),
    ("preference/tcm_case_pairs.jsonl", "prompt_chosen_rejected", 650, 0),
    ("preference/toolcall_dpo_zh.jsonl", "conversations_chosen_rejected", 6, 0),
    ("preference/vicuna_bench_pairs.jsonl", "prompt_chosen_rejected", 977, 0),
]
PASTED = [
    (
        "sft/customer_service_ecommerce_en.jsonl",
        {"messages": "turns", "assistant_role": "agent"},
        "messages",
        800,
    ),
    (
        "sft/self_instruct_seed_tasks.jsonl",
        {
            "instruction": "instruction",
            "input": "instances.0.input",
            "output": "instances.0.output",
        },
        "alpaca",
        175,
    ),
    (
        "toolcall/sgd_raw_dialogues.json",
        {
            "messages": "turns",
            "role": "speaker",
            "content": "utterance",
            "assistant_role": "SYSTEM",
        },
        "messages",
        51,
    ),
]
BENCHMARKS = ["bfcl_multiple", "bfcl_parallel", "bfcl_simple_python"]
OTHERS = {
    "sft/facqa_id_raw.csv",
    "sft/medical_dialogue_zh_gb18030.csv",
    "preference/kto_en_demo.json",
}


@pytest.mark.parametrize(("name", "form", "samples", "bad"), [*SFT, *DPO])
def test_a_file_loads_with_its_format_and_counts(
    shared: Shared, name: str, form: str, samples: int, bad: int
) -> None:
    objective = "dpo" if name.startswith("preference") else "sft"
    loaded = load_samples([str(shared(name))], objective=objective)
    assert loaded.mix == {form: samples}
    assert (len(loaded.samples), len(loaded.bad)) == (samples, bad)
    assert loaded.files[0].rows == samples + bad
    kinds = (Preference,) if objective == "dpo" else (Conversation, Text)
    assert all(isinstance(sample, kinds) for sample in loaded.samples)
    assert all(row.reason and row.origin.line > 0 for row in loaded.bad)


def pasted(fix: str) -> dict[str, str]:
    """The columns that a refusal hands out as a line of a file of settings."""
    columns: dict[str, str] = yaml.safe_load(fix.partition("in a file: ")[2])["columns"]
    return columns


@pytest.mark.parametrize(("name", "columns", "form", "samples"), PASTED)
def test_the_columns_of_the_refusal_make_the_file_load(
    shared: Shared, name: str, columns: dict[str, str], form: str, samples: int
) -> None:
    path = str(shared(name))
    with pytest.raises(FormatError) as refused:
        load_samples([path])
    assert pasted(refused.value.fix) == columns
    loaded = load_samples([path], columns=columns)
    assert (loaded.mix, loaded.bad) == ({form: samples}, [])


def test_customer_service_keeps_who_speaks_in_any_case(shared: Shared) -> None:
    path = str(shared("sft/customer_service_ecommerce_en.jsonl"))
    loaded = load_samples([path], columns={"messages": "turns", "assistant_role": "agent"})
    roles = {m.role for s in loaded.samples if isinstance(s, Conversation) for m in s.messages}
    assert roles == {"user", "assistant"}
    wrong = load_samples([path], columns={"messages": "turns"})
    assert not wrong.samples
    assert "assistant_role: agent" in wrong.bad[0].reason


def test_a_chinese_csv_names_its_encoding_then_its_columns(shared: Shared) -> None:
    path = str(shared("sft/medical_dialogue_zh_gb18030.csv"))
    with pytest.raises(EncodingError, match=r"line 2 .*gb18030") as refused:
        load_samples([path])
    assert refused.value.fix.startswith("--encoding NAME, with the one that reads right: gb18030")
    with pytest.raises(FormatError) as unknown:
        load_samples([path], encoding="gb18030")
    columns = pasted(unknown.value.fix)
    assert columns == {"prompt": "ask", "completion": "answer"}
    loaded = load_samples([path], encoding="gb18030", columns=columns)
    assert loaded.mix["prompt_completion"] + len(loaded.bad) == 1000
    assert len(loaded.bad) <= 10


def test_python_lists_in_cells_are_refused_and_the_command_given_mends_them(
    shared: Shared, tmp_path: Path
) -> None:
    path = shared("sft/facqa_id_raw.csv")
    for columns in (None, {"prompt": "question", "completion": "passage"}):
        with pytest.raises(FormatError, match="Python lists") as refused:
            load_samples([str(path)], columns=columns)
    code = re.search(r'python -c "(.*)" < FILE', refused.value.fix)
    assert code is not None
    ast.parse(code[1])
    mended = tmp_path / "rows.jsonl"
    with path.open(encoding="utf-8", newline="") as source:  # what the command does
        rows = [
            {k: " ".join(ast.literal_eval(v)) for k, v in r.items()} for r in csv.DictReader(source)
        ]
    mended.write_text("\n".join(map(json.dumps, rows)))
    loaded = load_samples(
        [str(mended)],
        columns={"instruction": "passage", "input": "question", "output": "seq_label"},
    )
    assert loaded.mix == {"alpaca": 311}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_files_are_refused_as_what_they_are(shared: Shared, name: str) -> None:
    with pytest.raises(FormatError, match="the file has no answers"):
        load_samples([str(shared(f"toolcall/{name}.jsonl"))])
    with pytest.raises(FormatError, match="the file has no questions"):
        load_samples([str(shared(f"toolcall/{name}_answers.jsonl"))])


def test_benchmark_rows_joined_as_the_refusal_says_load(shared: Shared, tmp_path: Path) -> None:
    def rows(name: str) -> list[dict[str, object]]:
        text = shared(f"toolcall/{name}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    joined = []
    for question, answer in zip(rows("bfcl_parallel"), rows("bfcl_parallel_answers"), strict=True):
        calls = [
            {"function": {"name": name, "arguments": {k: v[0] for k, v in arguments.items()}}}
            for call in answer["ground_truth"]  # type: ignore[attr-defined]
            for name, arguments in call.items()
        ]
        asked = question["question"][0]  # type: ignore[index]
        turns = [*asked, {"role": "assistant", "content": None, "tool_calls": calls}]
        joined.append(json.dumps({"messages": turns, "tools": question["function"]}))
    file = tmp_path / "joined.jsonl"
    file.write_text("\n".join(joined))
    loaded = load_samples([str(file)])
    assert loaded.mix == {"messages": 200}
    first = loaded.samples[0]
    assert isinstance(first, Conversation)
    assert len(first.messages[-1].tool_calls) > 1
    parameters = first.tools[0]["function"]["parameters"]
    assert parameters["type"] == "dict", "a schema is not rewritten"


def test_labelled_answers_are_for_kto_and_their_columns_for_sft(shared: Shared) -> None:
    path = str(shared("preference/kto_en_demo.json"))
    loaded = load_samples([path], objective=None)
    assert loaded.mix == {"messages_label": 240}
    labels = [sample.label for sample in loaded.samples if isinstance(sample, Feedback)]
    assert (labels.count(True), labels.count(False)) == (120, 120)
    for objective in ("sft", "dpo", "text"):
        with pytest.raises(FormatError, match="answers with a label") as refused:
            load_samples([path], objective=objective)
    assert "--objective kto" in str(refused.value.fix)
    assert load_samples([path], objective="kto").mix == {"messages_label": 240}
    assert load_samples([path], columns={"messages": "messages"}).mix == {"messages": 240}


def test_the_text_file_holds_the_same_chats_as_the_json_lines(shared: Shared) -> None:
    texts = load_samples([str(shared("sft/oasst_llama2_chat.txt"))]).samples
    chats = load_samples([str(shared("sft/oasst_llama2_chat.jsonl"))]).samples[:200]
    differ = [
        (a.text, b.text)
        for a, b in zip(texts, chats, strict=True)
        if isinstance(a, Text) and isinstance(b, Text) and a.text != b.text
    ]
    assert len(differ) == 1, "one chat quotes a backslash and an n inside code"


def test_tool_calls_and_results_of_a_booking(shared: Shared) -> None:
    loaded = load_samples([str(shared("toolcall/sgd_openai_messages.jsonl"))])
    first = loaded.samples[0]
    assert isinstance(first, Conversation)
    call = next(m for m in first.messages if m.tool_calls)
    result = first.messages[first.messages.index(call) + 1]
    assert call.tool_calls[0].name == "ReserveRestaurant"
    assert call.tool_calls[0].arguments["location"] == "Corte Madera"
    assert (result.role, result.tool_call_id) == ("tool", call.tool_calls[0].id)


def test_the_loss_weights_of_typed_parts_are_kept(shared: Shared) -> None:
    loaded = load_samples([str(shared("sft/content_parts_messages.jsonl"))])
    first = loaded.samples[0]
    assert isinstance(first, Conversation)
    assert [(m.role, m.weight) for m in first.messages] == [("user", 0.0), ("assistant", 1.0)]
    assert first.messages[0].content == "hi"


def test_a_transcript_pair_shares_its_prompt(shared: Shared) -> None:
    loaded = load_samples([str(shared("preference/hh_rlhf_harmless.jsonl"))], objective="dpo")
    first = loaded.samples[0]
    assert isinstance(first, Preference)
    assert [m.role for m in first.prompt] == ["user", "assistant", "user", "assistant", "user"]
    assert first.chosen[0].content.startswith("No, sorry!")
    assert first.rejected[0].content.startswith("There are lots")


def test_no_shared_training_file_is_forgotten(shared: Shared) -> None:
    folders = ("sft", "toolcall", "preference")
    there = {f"{f}/{path.name}" for f in folders for path in shared(f).iterdir()}
    tested = {case[0] for case in (*SFT, *DPO, *PASTED)} | OTHERS
    tested |= {f"toolcall/{name}{end}.jsonl" for name in BENCHMARKS for end in ("", "_answers")}
    assert there == tested
