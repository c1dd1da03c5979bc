"""Bad rows: each has a stated outcome, in one sentence, and the rows beside it are read.

The numbers D16 to D42 are those of the table of bad inputs; those about rendering and duplicates
are tested where that happens.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from luthier.data.load import Loaded, load_samples
from luthier.data.types import Conversation
from luthier.errors import FormatError, MalformedFileError

USER = {"role": "user", "content": "hi"}
GOOD = {"messages": [USER, {"role": "assistant", "content": "hello"}]}
LINE = json.dumps(GOOD)


def write(folder: Path, content: str) -> str:
    path = folder / "rows.jsonl"
    path.write_text(content, encoding="utf-8")
    return str(path)


def turns(*messages: dict[str, Any], **beside: Any) -> dict[str, Any]:
    return {"messages": list(messages), **beside}


def assistant(**fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "hello", **fields}


def load_row(folder: Path, row: Any) -> Loaded:
    """A good row, then the row in question."""
    return load_samples([write(folder, f"{LINE}\n{json.dumps(row)}\n")], objective=None)


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "D16 list": ([1, 2], "a list, not an object"),
    "D16 number": (3, "a number, not an object"),
    "D16 string": ("text", "a string, not an object"),
    "D16 null": (None, "null, not an object"),
    "D17 misspelt": ({"promt": "a", "completion": "b"}, "'promt' looks like 'prompt'"),
    "D17 no rejected": ({"prompt": "a", "chosen": "b"}, "would need 'rejected'"),
    "D17 null": ({"prompt": "a", "completion": None}, "'completion'"),
    "D17 nothing": ({}, "no fields"),
    "D19 unknown role": (turns(USER, {"role": "alien", "content": "x"}), "'alien', is unknown"),
    "D19 role a number": (turns(USER, {"role": 7, "content": "x"}), "a number, not a string"),
    "D19 no role": (turns(USER, {"content": "x"}), "message 2 has no 'role'"),
    "D20 no assistant": (turns(USER), "no assistant message"),
    "D20 no turns": (turns(), "messages is empty"),
    "D20 turn a string": (turns(USER, "hello"), "message 2 is a string"),  # type: ignore[arg-type]
    "D21 null": (turns(USER, assistant(content=None)), "'content' is null"),
    "D21 number": (turns(USER, assistant(content=5)), "a number, not text"),
    "D21 object": (turns(USER, assistant(content={"a": 1})), "an object, not text"),
    "D21 unknown part": (
        turns(USER, assistant(content=[{"type": "image_url", "image_url": "x"}])),
        "'image_url'; only text",
    ),
    "D22 empty": (turns(USER, assistant(content="")), "message 2, an answer, is empty"),
    "D22 white space": (turns(USER, assistant(content=" \n\t")), "is empty"),
    "D22 Alpaca": ({"instruction": "a", "input": "", "output": " "}, "the answer, is empty"),
    "D22 in the middle": (turns(USER, assistant(content=""), USER, assistant()), "message 2"),
    "empty question": (turns({"role": "user", "content": ""}, assistant()), "a question, is empty"),
    "D23 the same": ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
    "D24 other prompt": (
        {"chosen": [USER, assistant()], "rejected": [{**USER, "content": "ho"}, assistant()]},
        "different prompts",
    ),
    "D24 transcripts": (
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
        "different prompts",
    ),
    "D24 no prompt": ({"chosen": "b", "rejected": "c"}, "there is no prompt"),
    "D24 prompt repeated wrongly": (
        {"prompt": "a", "chosen": [USER, assistant()], "rejected": "c"},
        "another prompt",
    ),
    "D25 rejected empty": ({"prompt": "a", "chosen": "b", "rejected": ""}, "rejected is empty"),
    "prompt ends with an answer": (
        {"messages": [USER, assistant()], "chosen": "b", "rejected": "c"},
        "ends with an answer",
    ),
    "D26 arguments not JSON": (
        turns(USER, assistant(tool_calls=[{"function": {"name": "f", "arguments": "{"}}])),
        "the arguments of f is not JSON",
    ),
    "D26 arguments a list": (
        turns(USER, assistant(tool_calls=[{"function": {"name": "f", "arguments": [1]}}])),
        "a list, not an object",
    ),
    "D26 no name": (turns(USER, assistant(tool_calls=[{"arguments": {}}])), "without a name"),
    "D26 unknown tool": (
        turns(USER, assistant(tool_calls=[{"name": "g", "arguments": {}}]), tools=[{"name": "f"}]),
        "calls 'g', which is not among its tools",
    ),
    "D26 calls of a user": (turns({**USER, "tool_calls": [{"name": "f"}]}, assistant()), "is user"),
    "D26 result of no call": (
        turns(
            USER,
            assistant(tool_calls=[{"name": "f", "id": "1"}]),
            {"role": "tool", "tool_call_id": "2", "content": "x"},
        ),
        "'2', which nobody made",
    ),
    "D26 tools not JSON": (turns(USER, assistant(), tools="[{"), "tools is not JSON"),
    "D41 homoglyph": (
        turns(USER, {"role": "assistant", "\u0441ontent": "x"}),
        r"'\u0441ontent'",
    ),
    "D41 homoglyph field": ({"te\u0445t": "x"}, r"'te\u0445t'"),
    "D42 negative": (turns(USER, assistant(weight=-1)), "from 0 to 1"),
    "D42 two": (turns(USER, assistant(weight=2)), "from 0 to 1"),
    "D42 text": (turns(USER, assistant(weight="1")), "from 0 to 1"),
    "D42 boolean": (turns(USER, assistant(weight=True)), "from 0 to 1"),
    "label a word": (turns(USER, assistant(), label="math"), "not true or false"),
    "system twice": (
        turns({"role": "system", "content": "a"}, USER, assistant(), system="b"),
        "beside another",
    ),
    "text a number": ({"text": 5}, "a number, not text"),
    "text empty": ({"text": " "}, "is empty"),
    "history not pairs": (
        {"instruction": "a", "output": "b", "history": [["x"]]},
        "round 1 of the history",
    ),
    "both names of a role": (turns(USER, assistant(**{"from": "gpt"})), "both 'role' and 'from'"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_named_with_its_reason(tmp_path: Path, case: str) -> None:
    row, reason = BAD_ROWS[case]
    loaded = load_row(tmp_path, row)
    assert len(loaded.samples) == 1
    assert [bad.origin.line for bad in loaded.bad] == [2]
    assert reason in loaded.bad[0].reason


def test_weights_that_are_not_numbers_never_reach_a_row(tmp_path: Path) -> None:
    """D42, NaN: refused by the reader already."""
    with pytest.raises(MalformedFileError, match="NaN"):
        load_row(tmp_path, turns(USER, assistant(weight=float("nan"))))


ODD_ROWS: dict[str, tuple[Any, list[str]]] = {
    "D20 assistant first": (
        turns(assistant(), USER, assistant()),
        ["assistant", "user", "assistant"],
    ),
    "D20 two in a row": (turns(USER, assistant(), assistant()), ["user", "assistant", "assistant"]),
    "D20 system in the middle": (
        turns(USER, {"role": "system", "content": "x"}, assistant()),
        ["user", "system", "assistant"],
    ),
    "D20 user last": (turns(USER, assistant(), USER), ["user", "assistant", "user"]),
    "developer": (
        turns({"role": "developer", "content": "x"}, USER, assistant()),
        ["system", "user", "assistant"],
    ),
    "system empty": (
        turns({"role": "system", "content": " "}, USER, assistant()),
        ["system", "user", "assistant"],
    ),
    "any case": (turns({"role": "User", "content": "a"}, assistant()), ["user", "assistant"]),
    "D26 calls null": (turns(USER, assistant(tool_calls=None)), ["user", "assistant"]),
    "D31 one character": ({"prompt": "a", "completion": "b"}, ["user", "assistant"]),
    "empty answer of weight 0": (
        turns(USER, assistant(content="", weight=0), USER, assistant()),
        ["user", "assistant", "user", "assistant"],
    ),
}


@pytest.mark.parametrize("case", ODD_ROWS)
def test_an_odd_row_is_accepted_as_it_is(tmp_path: Path, case: str) -> None:
    row, roles = ODD_ROWS[case]
    loaded = load_row(tmp_path, row)
    assert not loaded.bad
    assert isinstance(loaded.samples[1], Conversation)
    assert [m.role for m in loaded.samples[1].messages] == roles


@pytest.mark.parametrize("arguments", [{"a": 1}, '{"a": 1}', "", None], ids=repr)
@pytest.mark.parametrize("wrapped", [True, False])
def test_arguments_become_an_object(tmp_path: Path, arguments: Any, wrapped: bool) -> None:
    """D26: as an object, as JSON in a string, as nothing."""
    call: dict[str, Any] = {"name": "f", "arguments": arguments}
    call = {"id": "1", "type": "function", "function": call} if wrapped else call
    loaded = load_row(tmp_path, turns(USER, assistant(content=None, tool_calls=[call])))
    assert isinstance(loaded.samples[1], Conversation)
    made = loaded.samples[1].messages[1].tool_calls[0]
    assert (made.name, made.arguments) == ("f", {"a": 1} if arguments else {})


def test_mixed_formats_load_and_the_mix_is_reported(tmp_path: Path) -> None:
    """D18."""
    rows = [GOOD, {"prompt": "a", "completion": "b"}, {"text": "plain words"}, GOOD]
    loaded = load_samples([write(tmp_path, "\n".join(map(json.dumps, rows)))])
    assert loaded.mix == {"messages": 2, "prompt_completion": 1, "text (plain)": 1}


def test_a_row_that_may_be_two_things_is_refused_with_both_named(tmp_path: Path) -> None:
    """D18: every row's format must be certain."""
    row = {"instruction": "a", "input": "", "output": "b", "text": "a b"}
    path = write(tmp_path, f"{LINE}\n{json.dumps(row)}")
    with pytest.raises(FormatError, match=r"line 2: .*alpaca .* or text") as refused:
        load_samples([path])
    assert "columns: {text: text}" in refused.value.fix
    told = load_samples([path], columns={"text": "text"})
    assert told.mix == {"text (plain)": 1}
    assert [bad.origin.line for bad in told.bad] == [1]


def test_tool_schemas_stay_with_their_rows(tmp_path: Path) -> None:
    """D27: nothing is unified across rows, and no field is added to a schema."""
    schemas = [
        [{"type": "function", "function": {"name": "a", "parameters": {"properties": {"x": {}}}}}],
        [{"type": "function", "function": {"name": "b", "strict": True}}],
    ]
    rows = [turns(USER, assistant(), tools=schema) for schema in schemas]
    loaded = load_samples([write(tmp_path, "\n".join(map(json.dumps, rows)))])
    kept = [list(s.tools) for s in loaded.samples if isinstance(s, Conversation)]
    assert kept == schemas


HOSTILE = ["</s><s>[INST]", "<|im_end|>", "{{ 7*7 }}", "a\0b", "👩\u200d👩\u200d👧", "\u202eabc"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_text_is_kept_as_it_is(tmp_path: Path, text: str) -> None:
    """D9, D28, D41: control words, template code, NUL, joiners and direction marks are text."""
    loaded = load_row(tmp_path, {"prompt": text, "completion": text})
    assert isinstance(loaded.samples[1], Conversation)
    assert [m.content for m in loaded.samples[1].messages] == [text, text]
