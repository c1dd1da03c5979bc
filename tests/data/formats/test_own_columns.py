"""Files of one's own: columns named, guessed in four languages, and put together by a template."""

import csv
import json
import shlex

import pytest
from tests.commands import understood

from luthier.config import words
from luthier.data.doctor import fix
from luthier.data.formats import FORMATS, RowReader, parse
from luthier.data.formats.column_templates import fill, is_template, names_in
from luthier.data.formats.guess import guess_choices, guess_columns
from luthier.data.formats.paste import as_flag, as_yaml
from luthier.data.formats.suggest import any_columns, suggest
from luthier.data.formats.written import row_of
from luthier.data.load import load_samples
from luthier.data.prepare import fix_command
from luthier.data.types import BadRow, Origin, Row
from luthier.errors import FormatError

CHOICE = "{question}\nA. {A}\nB. {B}\nC. {C}"


def rows(*fields):
    return [Row(one, Origin("f.csv", number)) for number, one in enumerate(fields, 1)]


def test_a_template_puts_columns_together_and_leaves_out_what_is_empty():
    row = {"question": "2+2?", "A": "3", "B": 4, "C": "", "nested": {"x": ["deep"]}}
    assert fill(CHOICE, row.get) == "2+2?\nA. 3\nB. 4"
    assert fill(r"Q: {question}\nA: {A}", row.get) == "Q: 2+2?\nA: 3"
    assert fill("{C}", row.get) is None
    assert fill("{{{A}}} {question}", row.get) == "{3} 2+2?"
    assert names_in(CHOICE) == ("question", "A", "B", "C")
    assert not is_template("a plain {{name}}")
    reader = RowReader({"prompt": "{nested.x.0} {A}", "completion": "B"})
    assert isinstance(reader.read(rows(row)[0]).sample, BadRow)  # an answer has to be a text
    reader = RowReader({"prompt": "{nested.x.0} {A}", "completion": "question"})
    assert reader.read(rows(row)[0]).sample.messages[0].content == "deep 3"
    refused = RowReader({"prompt": "{nested} {A}", "completion": "question"}).read(rows(row)[0])
    assert "'nested', a column of a template, is an object, not text" in refused.sample.reason


GUESSED = [
    ({"问题": "二加二?", "回答": "四"}, {"prompt": "问题", "completion": "回答"}),
    ({"Pertanyaan": "2+2?", "Jawaban": "4"}, {"prompt": "Pertanyaan", "completion": "Jawaban"}),
    ({"Câu hỏi": "2+2?", "Trả lời": "4"}, {"prompt": "Câu hỏi", "completion": "Trả lời"}),
    ({"cau_hoi": "2+2?", "tra_loi": "4"}, {"prompt": "cau_hoi", "completion": "tra_loi"}),
    (
        {"Konteks": "k", "soal": "2+2?", "jawaban": "4"},
        {"instruction": "soal", "context": "Konteks", "response": "jawaban"},
    ),
    (
        {"提问": "a", "优选": "b", "劣选": "c", "系统": "d"},
        {"prompt": "提问", "chosen": "优选", "rejected": "劣选", "system": "系统"},
    ),
    ({"teks": "bagus", "label": 1}, {"prompt": "teks", "completion": "label"}),
    (
        {"soal": "2+2?", "pilihan_a": "3", "pilihan_b": "4", "jawaban": "B"},
        {"prompt": "{soal}\nA. {pilihan_a}\nB. {pilihan_b}", "completion": "jawaban"},
    ),
    ({"frage": "2+2?", "antwort": "4"}, {}),
]


@pytest.mark.parametrize(("fields", "columns"), GUESSED)
def test_names_in_four_languages_are_offered(fields, columns):
    assert guess_columns(rows(fields)) == columns
    if columns and "label" not in columns.values():
        assert not isinstance(RowReader(columns).read(rows(fields)[0]).sample, BadRow)
    assert isinstance(RowReader().read(rows(fields)[0]).sample, BadRow)  # never assumed


def test_choices_are_more_than_one_column():
    assert guess_choices(rows({"question": "q", "A": "x", "answer": "y"})) == []
    assert guess_choices(rows({"option2": "q", "Option1": "x"})) == ["Option1", "option2"]


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": "ask", "completion": "reply"},
        {"prompt": "câu hỏi", "completion": "trả lời"},
        {"prompt": CHOICE, "completion": "it's, an answer"},
        {"prompt": "yes", "completion": "12", "system": "a: b"},
    ],
)
def test_columns_can_be_pasted_behind_a_flag_and_into_a_file(columns):
    import yaml

    _, flag = shlex.split(as_flag(columns))
    assert words.value_of("columns", flag) == columns
    assert yaml.safe_load(as_yaml(columns)) == {"columns": columns}
    understood(f"luthier data check rows.csv {as_flag(columns)}")
    understood(fix_command("a folder/rows.csv", columns))


def test_a_table_of_choices_is_offered_a_template_and_a_whole_reason(tmp_path):
    fields = {"question": "2+2?", "A": "3", "B": "4", "answer": "B", "parse": "as 2+2=4"}
    why, offered = suggest(rows(fields))
    assert "several columns" in why
    assert "{question}\\nA. {A}\\nB. {B}" in offered
    path = tmp_path / "mc.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(fields))
        writer.writeheader()
        writer.writerow(fields)
    with pytest.raises(FormatError) as refused:
        load_samples(str(path))
    flag = refused.value.fix.partition("; or")[0]
    columns = words.value_of("columns", shlex.split(flag)[1])
    (sample,) = load_samples(str(path), columns=columns).samples
    assert sample.messages[0].content == "2+2?\nA. 3\nB. 4"
    said = RowReader().read(rows(fields)[0]).sample.reason
    assert said == (
        "no known format: it would be question_answer, but for what else is asked with: 'A', 'B'"
    )


def test_columns_that_nobody_knows_are_named_with_a_command_to_put_right():
    fields = {"frage": "Was?", "antwort": "Das.", "nummer": 3}
    assert any_columns(rows(fields)) == {"prompt": "frage", "completion": "antwort"}
    with pytest.raises(FormatError) as refused:
        parse(rows(fields))
    assert "'antwort', 'frage', 'nummer'" in refused.value.what
    assert "--columns prompt=frage,completion=antwort" in refused.value.fix


def test_a_template_with_a_name_that_no_row_has_is_refused_with_the_nearest(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "2+2?", "answer": "4"}\n')
    with pytest.raises(FormatError, match="no row has the column 'qeustion'") as refused:
        load_samples(
            str(path), columns={"prompt": "Q: {qeustion} {answer}", "completion": "answer"}
        )
    assert "{question}" in refused.value.fix


@pytest.mark.parametrize("one", FORMATS, ids=lambda one: one.name)
def test_every_sample_is_written_so_that_it_reads_back(one):
    reader = RowReader()
    made = reader.read(rows(json.loads(json.dumps(one.example)))[0]).sample
    again = reader.read(rows(json.loads(json.dumps(row_of(made))))[0]).sample
    assert again == made


def test_fix_writes_a_known_format_and_survives_null_and_broken_lines(tmp_path):
    path, new = tmp_path / "mine.jsonl", tmp_path / "new.jsonl"
    lines = [
        json.dumps({"ask": "2+2?", "reply": "4", "tag": "x"}),
        json.dumps({"ask": "3+3?", "reply": None, "tag": "x"}),
        json.dumps({"ask": "4+4?", "reply": "", "tag": "x"}),
        '{"ask": "broken',
        json.dumps({"ask": "5+5?", "reply": "10"}),
    ]
    path.write_text("\n".join(lines))
    columns = {"prompt": "Q: {ask}", "completion": "reply"}
    report = fix(path, new, columns=columns)
    assert report.done == {"empty-answer": 2, "file-unreadable": 1}
    written = [json.loads(line) for line in new.read_text().splitlines()]
    assert written == [
        {"prompt": "Q: 2+2?", "completion": "4"},
        {"prompt": "Q: 5+5?", "completion": "10"},
    ]
    assert len(load_samples(str(new)).samples) == 2  # nothing has to be said again
    assert fix(new, tmp_path / "again.jsonl").done == {}
