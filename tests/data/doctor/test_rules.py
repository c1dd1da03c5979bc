"""Each rule finds what it is for, and leaves sound rows alone."""

import json
from datetime import UTC, datetime

import pytest
from tests.data.doctor.cases import CASES, Case

from luthier.data.doctor import RULES, check
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template


def written(folder, name, case, rows):
    path = folder / f"{name}{case.ending}"
    if isinstance(rows, bytes):
        path.write_bytes(rows)
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def chat_template(tokenizer, setting=None):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return choose_template(tokenizer, setting=setting, gallery_template=None, now=now, kwargs={})[0]


def examine_files(files, tokenizer, *, template=None, context=None, held_out=(), **options):
    """The report on files; without a tokenizer nothing is rendered."""
    options = {"objective": "sft", "seq_length": 4096, "truncation": "prompt_start", **options}
    renderer = None
    if tokenizer is not None:
        chosen = chat_template(tokenizer, template)
        renderer = Renderer(tokenizer, chosen, **options)
    return check(
        files,
        renderer=renderer,
        objective=options["objective"],
        context=context,
        held_out=held_out,
    )


def examine(folder, tokenizer, case: Case, rows):
    held_out = [] if case.held_out is None else [written(folder, "held", case, case.held_out)]
    return examine_files(
        [written(folder, "rows", case, rows)],
        tokenizer,
        template=case.template,
        held_out=held_out,
        **case.options,
    )


def test_every_rule_has_a_case_and_a_code_of_its_own():
    codes = [rule.code for rule in RULES]
    assert len(set(codes)) == len(codes)
    assert set(codes) == set(CASES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_rule_explains_itself(rule):
    for text in (rule.title, rule.why, rule.fix, rule.__doc__):
        assert text
        assert text == text.strip()
    assert rule.example
    assert rule.__module__.rsplit(".", 1)[1] == rule.code.replace("-", "_")


@pytest.mark.parametrize("code", CASES)
def test_a_rule_finds_what_it_is_for(code, tokenizer, tmp_path):
    report = examine(tmp_path, tokenizer, CASES[code], CASES[code].bad)
    found = {finding.code: finding for finding in report.findings}
    assert code in found, sorted(found)
    assert found[code].count >= 1
    assert report.rows == report.used + report.bad.count


@pytest.mark.parametrize("code", CASES)
def test_a_rule_leaves_sound_rows_alone(code, tokenizer, tmp_path):
    report = examine(tmp_path, tokenizer, CASES[code], CASES[code].good)
    assert code not in {finding.code for finding in report.findings}
    assert report.rows == report.used + report.bad.count
