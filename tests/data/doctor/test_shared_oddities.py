"""Every oddity that the README of the shared data names is found by a rule, in the rows it is in."""

import json
from itertools import pairwise

import pytest
from tests.data.doctor.test_rules import examine_files

ODDITIES = {
    "exact duplicates": ("sft/alpaca_en_demo.json", "duplicate-rows", 11),
    "an empty output": ("sft/tcm_ner.json", "empty-answer", 1),
    "not UTF-8": ("sft/medical_dialogue_zh_gb18030.csv", "encoding-not-utf8", 1),
    "ends with the customer": ("sft/customer_service_ecommerce_en.jsonl", "ends-with-user", 17),
    "two turns in a row": ("sft/customer_service_ecommerce_en.jsonl", "two-turns-in-a-row", 22),
    "Python lists in cells": ("sft/facqa_id_raw.csv", "python-lists-in-cells", 1),
    "one model always chosen": ("preference/tcm_case_pairs.jsonl", "chosen-one-model", 646),
    "one fixed layout": ("preference/tcm_case_pairs.jsonl", "chosen-one-layout", 646),
    "no user turn": ("sft/openai_toy_chat.jsonl", "no-user-turn", 1),
    "12,000 tokens": ("sft/openai_toy_chat.jsonl", "longer-than-context", 1),
    "type dict, simple": ("toolcall/bfcl_simple_python.jsonl", "tool-schema-types", 400),
    "type dict, multiple": ("toolcall/bfcl_multiple.jsonl", "tool-schema-types", 200),
    "type dict, parallel": ("toolcall/bfcl_parallel.jsonl", "tool-schema-types", 200),
}
"""Counts were checked against the files by scripts of their own, below where they are not plain."""


@pytest.fixture(scope="module")
def findings(shared, tokenizer):
    """Findings of a file by code, looked at once."""
    known = {}

    def get(name):
        if name not in known:
            objective = "dpo" if name.startswith("preference") else "sft"
            long = 20_000 if "toy_chat" in name else None
            renderer = tokenizer if "toy_chat" in name else None
            report = examine_files([str(shared(name))], renderer, objective=objective, context=long)
            assert report.rows == report.used + report.bad.count
            known[name] = {finding.code: finding for finding in report.findings}
        return known[name]

    return get


@pytest.mark.parametrize("oddity", ODDITIES)
def test_a_rule_finds_it(oddity, findings):
    name, code, count = ODDITIES[oddity]
    assert findings(name)[code].count == count


def test_the_encoding_is_named(findings):
    found = findings("sft/medical_dialogue_zh_gb18030.csv")["encoding-not-utf8"]
    assert "gb18030" in found.fix


def test_the_columns_to_say_are_named(findings):
    found = findings("sft/customer_service_ecommerce_en.jsonl")["format-unknown"]
    assert "--columns messages=turns,assistant_role=agent" in found.fix


def test_counts_are_those_of_a_plain_script(shared):
    rows = json.loads(shared("sft/alpaca_en_demo.json").read_text("utf-8"))
    assert len(rows) - len({json.dumps(row, sort_keys=True) for row in rows}) == 11
    lines = shared("sft/customer_service_ecommerce_en.jsonl").read_text("utf-8").splitlines()
    roles = [[turn["role"] for turn in json.loads(line)["turns"]] for line in lines]
    assert sum(turns[-1].lower() == "user" for turns in roles) == 17
    doubled = [any(a.lower() == b.lower() for a, b in pairwise(turns)) for turns in roles]
    assert sum(doubled) == 22
    text = shared("preference/tcm_case_pairs.jsonl").read_text("utf-8")
    models = [json.loads(line)["chosen_model"] for line in text.splitlines()]
    assert models.count("tcmchat") == 646
