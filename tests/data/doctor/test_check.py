"""The report accounts for every row, and its figures are those of training."""

import importlib
import json

import numpy as np
import pytest
from bench.doctor_million import write
from tests.data.doctor.cases import GOOD, ask, chat
from tests.data.doctor.test_rules import chat_template, examine_files

from luthier.data.doctor.languages import language_of
from luthier.data.doctor.measure import padding
from luthier.data.doctor.minhash import signature, similar_pairs
from luthier.data.load import load_samples
from luthier.data.prepare import prepare
from luthier.data.rendering.render import Renderer

WORDS = [
    "river",
    "stone",
    "lantern",
    "copper",
    "meadow",
    "violin",
    "harbour",
    "pepper",
    "cloud",
    "marble",
]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows_of(count, words=8):
    draw = np.random.Generator(np.random.Philox(key=4))
    texts = [" ".join(draw.choice(WORDS, words)) for _ in range(count)]
    return [ask(f"Say {number} {text}?", f"It is {text}.") for number, text in enumerate(texts)]


def test_every_row_is_used_or_bad_with_its_reason(tokenizer, tmp_path):
    rows = [GOOD, [1], ask("Hi.", ""), chat(("user", "A?")), *rows_of(20)]
    report = examine_files([written(tmp_path / "rows.jsonl", rows)], tokenizer).to_dict()
    assert (report["rows"], report["used"], report["bad"]["count"]) == (24, 21, 3)
    assert [(row["line"], row["code"]) for row in report["bad"]["rows"]] == [
        (2, ""),
        (3, "empty-answer"),
        (4, "no-answer"),
    ]
    assert sum(report["bad"]["reasons"].values()) == 3
    assert json.loads(json.dumps(report)) == report


def test_tokens_are_those_of_training(tokenizer, tmp_path):
    path = written(tmp_path / "rows.jsonl", rows_of(40))
    report = examine_files([path], tokenizer, seq_length=4096)
    renderer = Renderer(tokenizer, chat_template(tokenizer), seq_length=4096)
    trained = prepare(load_samples(path), renderer).report
    figures = report.figures["tokens"]
    assert figures["all"] == trained["tokens"]
    assert figures["answer"]["sum"] == trained["supervised_tokens"]
    assert figures["total"]["p50"] == trained["lengths"]["p50"]
    assert sum(one["rows"] for one in report.figures["histogram"]) == 40


def test_a_limit_costs_what_lies_over_it(tokenizer, tmp_path):
    path = written(tmp_path / "rows.jsonl", rows_of(30, words=100))
    report = examine_files([path], tokenizer, seq_length=600)
    cut = report.figures["cuts"]["512"]
    total = report.figures["tokens"]["total"]
    assert cut["rows"] == 30
    assert cut["tokens"] == total["sum"] - 30 * 512
    assert cut["step_cost"] == pytest.approx(30 * 512 / total["sum"], abs=1e-4)


def test_beyond_a_limit_of_rows_every_tenth_is_rendered(tokenizer, tmp_path, monkeypatch):
    module = importlib.import_module("luthier.data.doctor.check")
    monkeypatch.setattr(module, "RENDERED_ALL", 100)
    report = examine_files([written(tmp_path / "rows.jsonl", rows_of(300))], tokenizer)
    assert (report.rows, report.used) == (300, 300)
    assert report.sampled["tokens"] == 120


def test_the_benchmark_file_in_small(tmp_path):
    write(tmp_path / "rows.jsonl", 2000)
    report = examine_files([str(tmp_path / "rows.jsonl")], None)
    assert (report.rows, report.used) == (2000, 2000)
    assert {found.code: found.count for found in report.findings} == {"duplicate-rows": 2}


def test_padding_is_what_the_longest_of_a_batch_leaves():
    assert padding(np.array([10, 10, 10, 10], np.int32), 2) == 0
    assert padding(np.array([10, 30], np.int32), 2) == pytest.approx(1 - 40 / 60)


def test_signatures_estimate_what_texts_share():
    one = " ".join(f"{word} {number}" for number, word in enumerate(WORDS * 20))
    near, far = one.replace("river", "rivers"), one[::-1]
    table = np.stack([made for text in (one, near, far) if (made := signature(text)) is not None])
    found = list(similar_pairs(table, 0.7))
    assert [(later, earlier) for later, earlier, _ in found] == [(1, 0)]
    assert signature("short") is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the name of the river that you can see from the house?", "en"),
        ("Apa nama sungai yang ada di dekat rumah itu dan tidak jauh dari sini?", "id"),
        ("Tên của con sông mà bạn có thể nhìn thấy từ ngôi nhà là gì?", "vi"),
        ("从房子里能看到的那条河叫什么名字？", "zh"),
        ("家から見える川の名前は何ですか？", "ja"),
        ("¿Cómo se llama el río que está cerca de la casa para los niños?", "es"),
        ("x = f(y) + 3", None),
    ],
)
def test_the_language_of_a_text(text, language):
    assert language_of(text) == language


def test_a_near_duplicate_in_another_file_is_named_with_its_file(tmp_path):
    said = [{"instruction": f"Name the {what} of France{mark}", "output": "It is Paris, of course."}
            for what, mark in (("longest of the rivers", ""), ("capital and its mayor", ", please."), ("capital and its mayor", " please."))]  # fmt: skip
    first = written(tmp_path / "a.jsonl", said[:2])
    second = written(tmp_path / "b.jsonl", said[2:])
    report = examine_files([first, second], None)
    found = next(one for one in report.findings if one.code == "near-duplicates")
    assert found.rows[0].says.endswith(f"like {first} line 2")


def test_what_no_seq_length_keeps_is_not_promised_by_one(tokenizer, tmp_path):
    path = written(tmp_path / "rows.jsonl", rows_of(3, words=100))

    def fix_at(limit, context):
        report = examine_files([path], tokenizer, seq_length=limit, context=context)
        return next(one for one in report.findings if one.code == "cut-at-seq-length").fix

    assert fix_at(128, 4096).startswith("--seq_length ")
    assert "--seq_length 256 keeps what the model can hold" in fix_at(128, 256)
    assert "the model holds no more" in fix_at(256, 256)
