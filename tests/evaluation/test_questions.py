"""Rows of published benchmarks are questions with options."""

from pathlib import Path

import pytest

from luthier.data.reading.read import read_rows
from luthier.data.types import BadRow, Conversation, Message, Origin, Row
from luthier.evaluation.questions import Question, question_of_chat, read_question

HERE = Origin("rows.jsonl", 1)


def question(**fields):
    return read_question(Row(fields, HERE))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cmmlu_dev_nutrition.csv", 4),
        ("global_mmlu_lite_vi_dev.jsonl", 4),
        ("tcm_choice_herb_500.csv", 5),
        ("xcopa_id_val.jsonl", 2),
    ],
)
def test_every_row_of_a_published_benchmark_is_a_question(shared, name, options):
    rows = [read_question(row) for row in read_rows(shared(f"benchmarks/{name}"))]
    assert all(isinstance(one, Question) and len(one.options) == options for one in rows)
    assert len({one.right for one in rows}) > 1


def test_chats_are_no_questions_with_options(shared):
    for name in ("alpaca_en_demo.json", "dolly_sample.json", "oasst_guanaco.jsonl"):
        rows = read_rows(Path(shared(f"sft/{name}")))
        assert all(read_question(row) is None for row in rows), name


def test_the_letter_is_chosen_where_columns_have_letters():
    found = question(Question="2 + 2?", A="3", B="4", C=" ", Answer="b")
    assert found.messages[0].content == "2 + 2?\nA. 3\nB. 4\nAnswer:"
    assert (found.options, found.right, found.lettered) == (("A", "B"), 1, True)


@pytest.mark.parametrize(
    ("fields", "right"),
    [
        ({"question": "q", "choices": ["x", "y"], "answer": 1}, 1),
        ({"question": "q", "options": ["x", "y"], "answer": "y"}, 1),
        ({"question": "q", "choices": ["4", "3"], "answer": "A"}, 0),
        ({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "1"}, 0),
        ({"ctx": "c", "endings": ["x", "y", "z"], "label": "2"}, 2),
        ({"question": "q", "option_a": "x", "option_b": "y", "label": "(B)"}, 1),
    ],
)  # fmt: skip
def test_the_right_option_may_be_a_letter_a_number_a_label_or_the_text(fields, right):
    assert question(**fields).right == right


@pytest.mark.parametrize(
    "fields",
    [
        {"question": "q", "A": "x", "B": "y"},
        {"question": "q", "A": "x", "B": "y", "answer": "E"},
        {"question": "q", "A": "x", "B": "y", "answer": 7},
        {"question": "q", "A": "x", "B": "", "answer": "A"},
        {"A": "x", "B": "y", "answer": "A"},
        {"question": "q", "choices": ["x", "y"], "answer": True},
        {"question": "q", "choices": ["x", "x"], "answer": "x"},
    ],
)
def test_a_question_that_cannot_be_asked_says_why(fields):
    found = question(**fields)
    assert isinstance(found, BadRow)
    assert found.reason.startswith("a question with options, and ")


def chat(asked, answer):
    return Conversation((Message("user", asked), Message("assistant", answer)), HERE)


def test_a_chat_that_lists_its_options_is_a_question_too():
    found = question_of_chat(chat("Which?\nI. first\nA. one\nB. two\nC. three\nAnswer:", "B"))
    assert (found.options, found.right) == (("A", "B", "C"), 1)
    shots = "Which?\nA. x\nB. y\nAnswer: A\n\nWhich?\nA. one\nB. two\nC. three\nAnswer:"
    assert question_of_chat(chat(shots, "C")).options == ("A", "B", "C")
    assert question_of_chat(chat("Which?\nA. one\nB. two", "two")) is None
    assert question_of_chat(chat("Say A", "A")) is None
