"""Every format: its own example, its variants, and the `columns` that make others fit."""

from typing import Any

import pytest

from luthier.data.formats import FORMATS, Format, parse
from luthier.data.types import (
    Conversation,
    Feedback,
    Message,
    Origin,
    Preference,
    Row,
    Sample,
    Text,
    ToolCall,
)
from luthier.errors import FormatError, SettingsError

KINDS = {"conversation": Conversation, "preference": Preference, "text": Text, "feedback": Feedback}
ASK, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
OTHER = {"role": "assistant", "content": "b"}


def rows(*fields: dict[str, Any], file: str = "rows.jsonl") -> list[Row]:
    return [Row(row, Origin(file, line)) for line, row in enumerate(fields, 1)]


def one(fields: dict[str, Any], columns: dict[str, str] | None = None) -> Sample:
    parsed = parse(rows(fields), columns=columns)
    assert not parsed.bad, parsed.bad
    return parsed.samples[0]


def chat(fields: dict[str, Any], columns: dict[str, str] | None = None) -> list[tuple[str, str]]:
    sample = one(fields, columns)
    assert isinstance(sample, Conversation)
    return [(m.role, m.content) for m in sample.messages]


def pair(fields: dict[str, Any], columns: dict[str, str] | None = None) -> list[list[str]]:
    sample = one(fields, columns)
    assert isinstance(sample, Preference)
    return [[m.content for m in side] for side in (sample.prompt, sample.chosen, sample.rejected)]


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_the_example_of_a_format_is_read_as_that_format(form: Format) -> None:
    parsed = parse(rows(dict(form.example)))
    assert list(parsed.mix) == [form.name if form.kind != "text" else "text (llama2)"]
    assert isinstance(parsed.samples[0], KINDS[form.kind])
    assert not parsed.bad
    assert not parsed.unused


def test_names_of_formats_are_distinct() -> None:
    assert len({form.name for form in FORMATS}) == len(FORMATS)
    assert len({form.required for form in FORMATS}) == len(FORMATS)


ALPACA = {"instruction": "Sum up.", "input": "", "output": "a"}
CHATS = [
    (ALPACA, [("user", "Sum up."), ("assistant", "a")]),
    ({**ALPACA, "input": "text"}, [("user", "Sum up.\n\ntext"), ("assistant", "a")]),
    ({**ALPACA, "input": None}, [("user", "Sum up."), ("assistant", "a")]),
    ({**ALPACA, "instruction": "", "input": "q"}, [("user", "q"), ("assistant", "a")]),
    (
        {**ALPACA, "system": "s", "history": [["q1", "a1"], ["q2", "a2"]]},
        [
            ("system", "s"),
            ("user", "q1"),
            ("assistant", "a1"),
            ("user", "q2"),
            ("assistant", "a2"),
            ("user", "Sum up."),
            ("assistant", "a"),
        ],
    ),
    ({**ALPACA, "history": '[["q1", "a1"]]'}, None),
    ({**ALPACA, "system": "", "history": []}, [("user", "Sum up."), ("assistant", "a")]),
    ({"question": "q", "answer": "a"}, [("user", "q"), ("assistant", "a")]),
    ({"query": "q", "response": "a"}, [("user", "q"), ("assistant", "a")]),
    ({"input": "q", "output": "a"}, [("user", "q"), ("assistant", "a")]),
    ({"prompt": "q", "response": "a"}, [("user", "q"), ("assistant", "a")]),
    ({"prompt": [ASK], "completion": [ANSWER]}, [("user", "q"), ("assistant", "a")]),
    ({"prompt": [ASK], "completion": "a"}, [("user", "q"), ("assistant", "a")]),
    ({"conversations": [ASK, ANSWER]}, [("user", "q"), ("assistant", "a")]),
    (
        {
            "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
            "system": "s",
        },
        [("system", "s"), ("user", "q"), ("assistant", "a")],
    ),
    (
        {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        None,
    ),
    (
        {"messages": [ASK, {"role": "assistant", "content": [{"type": "text", "text": "a"}, "b"]}]},
        [("user", "q"), ("assistant", "ab")],
    ),
]


@pytest.mark.parametrize(("fields", "turns"), CHATS)
def test_a_row_becomes_turns(fields: dict[str, Any], turns: list[tuple[str, str]] | None) -> None:
    found = chat(fields)
    assert turns is None or found == turns
    assert found[-1] == ("assistant", "a") or found[-1] == ("assistant", "ab")


SAME = [["q"], ["a"], ["b"]]
PAIRS: list[tuple[dict[str, Any], list[list[str]]]] = [
    ({"prompt": "q", "chosen": "a", "rejected": "b"}, SAME),
    ({"prompt": [ASK], "chosen": [ANSWER], "rejected": [OTHER]}, SAME),
    ({"prompt": [ASK], "chosen": "a", "rejected": OTHER}, SAME),
    ({"prompt": "q", "chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]}, SAME),
    ({"chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]}, SAME),
    ({"messages": [ASK], "chosen": ANSWER, "rejected": OTHER}, SAME),
    ({"chosen_messages": [ASK, ANSWER], "rejected_messages": [ASK, OTHER]}, SAME),
    ({"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}, SAME),
    ({"question": "q", "response_j": "a", "response_k": "b"}, SAME),
    ({"prompt": "\n\nHuman: q\n\nAssistant:", "chosen": "a", "rejected": "b"}, SAME),
    (
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        SAME,
    ),
    (
        {"chosen": [ASK, ANSWER, ASK, ANSWER], "rejected": [ASK, ANSWER, ASK, OTHER]},
        [["q", "a", "q"], ["a"], ["b"]],
    ),
    (
        {"prompt": "q", "system": "s", "chosen": "a", "rejected": "b"},
        [["s", "q"], ["a"], ["b"]],
    ),
]


@pytest.mark.parametrize(("fields", "sides"), PAIRS)
def test_a_row_becomes_a_pair(fields: dict[str, Any], sides: list[list[str]]) -> None:
    assert pair(fields) == sides


def test_loss_weights_do_not_part_the_prompts_of_a_pair() -> None:
    heavy = {**ASK, "loss_weight": 0.0}
    assert pair({"chosen": [heavy, ANSWER], "rejected": [ASK, OTHER]}) == SAME


def test_the_tools_of_an_openai_pair_are_those_of_its_input() -> None:
    fields = {
        "input": {"messages": [ASK], "tools": [{"name": "f"}]},
        "preferred_output": [ANSWER],
        "non_preferred_output": [OTHER],
    }
    sample = one(fields)
    assert isinstance(sample, Preference)
    assert sample.tools == ({"type": "function", "function": {"name": "f"}},)


def test_functions_as_they_were_called_before() -> None:
    fields = {
        "messages": [
            ASK,
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "f", "arguments": '{"x": 1}'},
            },
            {"role": "function", "name": "f", "content": {"y": 2}},
            ANSWER,
        ],
        "functions": [{"name": "f"}],
    }
    sample = one(fields)
    assert isinstance(sample, Conversation)
    _, call, result, _ = sample.messages
    assert call == Message("assistant", "", tool_calls=(ToolCall("f", {"x": 1}),))
    assert result == Message("tool", '{"y": 2}', name="f")
    assert sample.tools == ({"type": "function", "function": {"name": "f"}},)


def test_several_calls_in_one_turn_of_sharegpt() -> None:
    value = '[{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"x": [1]}}]'
    sample = one(
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": value},
                {"from": "observation", "value": "{}"},
                {"from": "gpt", "value": "a"},
            ]
        }
    )
    assert isinstance(sample, Conversation)
    assert sample.messages[1].tool_calls == (ToolCall("f", {}), ToolCall("g", {"x": [1]}))


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_is_kept_apart(key: str) -> None:
    sample = one({"messages": [ASK, {**ANSWER, key: "because"}]})
    assert isinstance(sample, Conversation)
    assert sample.messages[1] == Message("assistant", "a", reasoning="because")


def test_reasoning_and_calls_as_typed_parts() -> None:
    parts = [
        {"type": "reasoning", "value": "because"},
        {"type": "text", "value": "a"},
        {"type": "tool_call", "value": '{"name": "f", "arguments": {}}'},
    ]
    sample = one({"messages": [ASK, {"role": "assistant", "content": parts}]})
    assert isinstance(sample, Conversation)
    expected = Message("assistant", "a", None, (ToolCall("f", {}),), reasoning="because")
    assert sample.messages[1] == expected


def test_a_prompt_completion_label_row_is_feedback() -> None:
    sample = one({"prompt": "q", "completion": "a", "label": "False"})
    assert isinstance(sample, Feedback)
    assert sample.label is False


COLUMNS: list[tuple[dict[str, Any], dict[str, str], list[tuple[str, str]]]] = [
    ({"ask": "q", "reply": "a"}, {"prompt": "ask", "completion": "reply"}, []),
    ({"prompt": "q", "reply": "a"}, {"completion": "reply"}, []),
    (
        {"turns": [{"who": "Kunde", "says": "q"}, {"who": "Agent", "says": "a"}]},
        {
            "messages": "turns",
            "role": "who",
            "content": "says",
            "assistant_role": "agent",
            "user_role": "kunde, client",
        },
        [],
    ),
    ({"data": {"q": ["q"], "a": "a"}}, {"prompt": "data.q.0", "completion": "data.a"}, []),
    ({"a.b": "q", "reply": "a"}, {"prompt": "a.b", "completion": "reply"}, []),
    ({"messages": [ASK, ANSWER], "label": "x"}, {"messages": "messages"}, []),
    (
        {"ask": "q", "reply": "a", "system": "s"},
        {"prompt": "ask", "completion": "reply"},
        [("system", "s")],
    ),
    (
        {"instruction": "x", "output": "y", "text": "z", "p": "q", "c": "a"},
        {"prompt": "p", "completion": "c"},
        [],
    ),
]


@pytest.mark.parametrize(("fields", "columns", "before"), COLUMNS)
def test_columns_name_what_nobody_knows(
    fields: dict[str, Any], columns: dict[str, str], before: list[tuple[str, str]]
) -> None:
    assert chat(fields, columns) == [*before, ("user", "q"), ("assistant", "a")]


def test_columns_make_pairs_too() -> None:
    fields = {"query": "q", "good": "a", "poor": "b"}
    assert pair(fields, {"prompt": "query", "chosen": "good", "rejected": "poor"}) == SAME


def test_a_name_that_is_not_ours_is_refused_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match="did you mean completion") as refused:
        parse(rows({"a": "b"}), columns={"prompt": "a", "completon": "b"})
    assert "'completon'" in refused.value.what


def test_a_column_that_no_row_has_is_named() -> None:
    with pytest.raises(FormatError, match="no row has the column 'asks'"):
        parse(rows({"ask": "q", "reply": "a"}), columns={"prompt": "asks", "completion": "reply"})


def test_a_column_that_one_row_lacks_makes_a_bad_row() -> None:
    columns = {"prompt": "ask", "completion": "reply"}
    parsed = parse(rows({"ask": "q", "reply": "a"}, {"ask": "q"}), columns=columns)
    assert len(parsed.samples) == 1
    assert "'completion'" in parsed.bad[0].reason


AMBIGUOUS = [
    {"messages": [ASK, ANSWER], "text": "x"},
    {"messages": [ASK, ANSWER], "conversations": []},
    {"prompt": "q", "completion": "a", "text": "x"},
    {"prompt": "q", "completion": "a", "response": "b"},
    {"prompt": "q", "chosen": "a", "rejected": "b", "messages": [ASK]},
    {"instruction": "q", "output": "a", "chosen": "a", "rejected": "b"},
]


@pytest.mark.parametrize("fields", AMBIGUOUS, ids=lambda fields: "+".join(fields))
def test_two_formats_are_refused_with_both_named(fields: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"rows.jsonl line 1: the row may be .* or ") as refused:
        parse(rows(fields))
    assert refused.value.fix.count("columns: {") == 2


def test_multiple_choice_questions_are_not_taken_for_questions_and_answers() -> None:
    fields = {"question": "q", "A": "1", "B": "2", "C": "3", "D": "4", "answer": "A"}
    with pytest.raises(FormatError) as refused:
        parse(rows(fields))
    assert "columns" in refused.value.fix


def test_columns_nothing_uses_are_counted() -> None:
    parsed = parse(rows({"prompt": "q", "completion": "a", "id": 1, "note": None}))
    assert parsed.unused == {"id": 1}


LLAMA2, GUANACO = "<s>[INST] q [/INST] a </s>", "### Human: q ### Assistant: a"


def forms(*texts: str, file: str = "rows.jsonl") -> list[tuple[str, str]]:
    samples = parse(rows(*({"text": text} for text in texts), file=file)).samples
    return [(s.form, s.text) for s in samples if isinstance(s, Text)]


def test_the_form_of_texts_is_that_of_most_rows() -> None:
    assert [f for f, _ in forms(LLAMA2, LLAMA2, "prose")] == ["llama2", "llama2", "plain"]
    assert [f for f, _ in forms("prose", "more", LLAMA2)] == ["plain"] * 3
    assert [f for f, _ in forms(GUANACO, "### Human:\nq\n### Assistant:\na")] == ["guanaco"] * 2
    assert forms("a lone [INST] in prose")[0][0] == "plain"


def test_line_ends_are_written_as_two_characters_in_chats_of_text_files_only() -> None:
    chat_line = LLAMA2.replace("a", "a\\nb")
    assert forms(chat_line, file="rows.txt")[0][1] == LLAMA2.replace("a", "a\nb")
    assert forms(chat_line, file="rows.txt.gz")[0][1] == LLAMA2.replace("a", "a\nb")
    assert forms(chat_line)[0][1] == chat_line
    assert forms("C:\\new", file="rows.txt")[0][1] == "C:\\new"
