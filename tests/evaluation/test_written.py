"""Written answers against those of the rows."""

from decimal import Decimal

import pytest

from luthier.evaluation.written import (
    Words,
    chrf,
    exact,
    found_metrics,
    number_of,
    numeric,
    rouge_l,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He has 3 + 4 = <<3+4=7>>7 apples.\n#### 7", "7"),
        ("#### 1,234", "1234"),
        ("#### $-2.50", "-2.50"),
        ("The answer is $1,000,000.", "1000000"),
        ("It is 18 dollars a day", "18"),
        ("from 10-3 we get", "3"),
        ("minus: -5", "-5"),
        ("half, .5", "0.5"),
        ("first #### 3\nno, #### 4", "4"),
        ("全角 １２ 个", "12"),
        ("\u22127", "-7"),
        ("####\nso 9", "9"),
        ("1,2", "2"),  # a list, not thousands
        ("none at all", None),
        ("", None),
    ],
)
def test_the_number_of_an_answer(text, number):
    assert number_of(text) == (None if number is None else Decimal(number))


def test_numbers_are_equal_as_numbers_and_no_number_is_never_right():
    assert numeric("#### 42", "so it is 42.0 in all") == 1.0
    assert numeric("#### 42", "so it is 4 and 2") == 0.0
    assert numeric("nothing", "nothing") == 0.0


def test_every_answer_of_gsm8k_has_the_number_behind_its_mark(shared):
    import json

    for line in shared("benchmarks/gsm8k_train_2500.jsonl").read_text("utf-8").strip().split("\n"):
        answer = json.loads(line)["answer"]
        assert number_of(answer) == Decimal(answer.rsplit("#### ", 1)[1].replace(",", ""))


def test_exact_overlooks_case_spacing_width_and_a_final_stop_and_nothing_else():
    assert exact("Hà Nội", "  hà  nội. ") == 1.0
    assert exact("答案：甲", "答案:甲。") == 1.0
    assert exact("ha noi", "hà nội") == 0.0
    assert exact("yes", "yes, it is") == 0.0


def test_words_of_every_script_are_words():
    assert Words().tokenize("It's 北京, Hà Nội: हिन्दी ไทย") == [
        "it", "s", "北", "京", "hà", "nội", "हिन्दी", "ไ", "ท", "ย",
    ]  # fmt: skip


def test_rouge_l_is_the_longest_common_subsequence_of_words():
    compare = rouge_l()
    # Lin 2004, section 3.1: "police killed the gunman" and "police kill the gunman".
    assert compare("police killed the gunman", "police kill the gunman") == pytest.approx(0.75)
    assert compare("今天天气很好", "天气很好") == pytest.approx(2 * 4 / 10)
    assert compare("今天", "明日") == 0.0


def test_chrf_is_that_of_its_library_and_knows_every_script():
    compare = chrf()
    assert compare("xin chào", "xin chào") == pytest.approx(100.0)
    assert 0 < compare("今天天气很好", "今天天气不好") < 100


def test_what_the_answers_of_rows_call_for():
    assert found_metrics(["a\n#### 3", "b\n#### 4"]) == ("numeric",)
    assert found_metrics(["yes", "no"]) == ("exact",)
    assert found_metrics(["yes", "a long story of many words " * 3]) == ()
    assert found_metrics([]) == ()
