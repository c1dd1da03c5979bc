"""Each rule of the advisor's table, by literal facts."""

import dataclasses

import numpy as np
import pytest
import yaml

from luthier.advisor.advise import advise
from luthier.advisor.facts import Facts, Machine, Model, Rows
from luthier.advisor.rules import REMARKS, TABLE
from luthier.advisor.speech import LANGUAGES
from luthier.config import read
from luthier.units import GIB


def lengths(middle, longest):
    """Percentiles that rise evenly to the middle and then to the longest."""
    low = np.linspace(8, middle, 51)
    return tuple(int(x) for x in np.concatenate([low, np.linspace(middle, longest, 51)[1:]]))


ROWS = Rows("conversations", 800, 200_000, 90_000, lengths(200, 700), answer_tokens=100,
            scripts={"latin": 1.0})  # fmt: skip
MODEL = Model("qwen3-8b", 8_190_735_360, 4096, 40960, "qwen3", 1_300_000)
GPU = Machine("A100 80 GiB", "cuda", 80 * GIB, {"full": 130 * GIB, "lora": 24 * GIB, "qlora": 12 * GIB})  # fmt: skip
ROOMY = {"full": 50 * GIB, "lora": 24 * GIB, "qlora": 12 * GIB}
STARTER = Model("starter", 1_049_000, 128, 512, "qwen3", 9344)
LAPTOP = Machine("CPU", "cpu", 16 * GIB, {"full": 2**27, "lora": 2**26, "qlora": 2**26})


def facts(rows=None, model=None, machine=None, goal="", **more):
    return Facts(
        dataclasses.replace(ROWS, **(rows or {})),
        dataclasses.replace(more.get("of", MODEL), **(model or {})),
        dataclasses.replace(more.get("on", GPU), **(machine or {})),
        goal,
        ("rows.jsonl",),
    )


PAIRS = {"kind": "pairs", "count": 2_000}
ROOM = {"needs": ROOMY}
CASES = {
    "objective_pairs": (facts(PAIRS), "dpo"),
    "objective_texts": (facts({"kind": "texts"}), "text"),
    "objective_labels": (facts({"kind": "feedback"}), "kto"),
    "objective_answers": (facts(), "sft"),
    "method_goes_on": (facts(model={"tuned": True}), "lora"),
    "method_small_model": (facts(of=STARTER, on=LAPTOP), "full"),
    "method_unknown_script": (
        facts({"scripts": {"han": 0.9, "latin": 0.1}, "tokens_per_letter": 1.8}, machine=ROOM), "full",
    ),
    "method_complex": (facts({"count": 6_000}, machine=ROOM, goal="write Python code"), "full"),
    "method_much_data": (facts({"count": 50_000}, machine=ROOM), "full"),
    "method_long_rows": (
        facts({"lengths": lengths(900, 9_000)}, machine={"room": {"lora": 2048, "qlora": 6144}}), "qlora",
    ),
    "method_few_rows": (facts(), "lora"),
    "method_lora_memory": (facts({"count": 50_000}), "lora"),
    "method_low_memory": (facts(machine={"memory_bytes": 16 * GIB}), "qlora"),
    "method_nothing_fits": (facts(machine={"memory_bytes": 8 * GIB}), "qlora"),
    "four_bits": (facts(machine={"memory_bytes": 16 * GIB}), True),
    "double_quant": (facts(machine={"memory_bytes": 14 * GIB}), True),
    "targets_all": (facts(), ["all-linear"]),
    "rank_capacity": (facts(), 16),
    "rank_capped": (facts({"learned_tokens": 10**9}), 128),
    "alpha_little_data": (facts(), 32.0),
    "alpha_equal": (facts({"count": 5_000}), 16.0),
    "alpha_much_data": (facts({"count": 50_000}), 8.0),
    "beta_few_pairs": (facts(PAIRS | {"count": 400}), 0.3),
    "beta_length_bias": (facts(PAIRS | {"chosen_longer": 0.8}), 0.2),
    "beta_many_pairs": (facts(PAIRS), 0.1),
    "length_context": (facts(model={"context": 512}), 512),
    "length_memory": (
        facts({"lengths": lengths(900, 9_000)}, machine={"room": {"lora": 3328, "qlora": 3328}}), 3328,
    ),
    "length_outliers": (facts({"lengths": (*[300] * 100, 9_000)}), 320),
    "length_all": (facts(), 704),
    "split_none": (facts({"count": 20}), 0),
    "split_rows": (facts(), 80),
    "batch": (facts(), 16),
    "epochs_pairs_few": (facts(PAIRS | {"count": 400}), 3),
    "epochs_pairs": (facts(PAIRS), 2),
    "epochs_text": (facts({"kind": "texts", "tokens": 5_000_000}), 2),
    "epochs": (facts(), 3),
    "evaluate_often": (facts({"count": 50_000}), 773),
    "stop_early": (facts({"count": 5_000}), 2),
    "rate_dpo": (facts(PAIRS), 5e-6),
    "rate_dpo_small": (facts(PAIRS, of=STARTER, on=LAPTOP), 1e-4),
    "rate_full_small": (facts(of=STARTER, on=LAPTOP), 2.2e-3),
    "rate_full": (facts({"count": 50_000}, machine=ROOM), 4.7e-5),
    "rate_small_model": (facts(model={"hidden": 576, "parameters": 135_000_000}), 1.3e-3),
    "rate_adapter": (facts(), 4.7e-4),
    "schedule": (facts(), "cosine"),
    "warmup_dpo": (facts(PAIRS), 0.1),
    "warmup": (facts(), 0.03),
}  # fmt: skip


@pytest.mark.parametrize("code", CASES)
def test_a_rule_decides_its_setting(code):
    given, value = CASES[code]
    found = {reason.code: reason for reason in advise(given).reasons}
    assert code in found, sorted(found)
    assert found[code].value == value


def test_every_rule_of_the_table_has_a_case():
    assert {rule.code for rule in TABLE} == set(CASES)


REMARKABLE = {
    "remark_too_few": facts({"count": 40}),
    "remark_nothing_fits": facts(machine={"memory_bytes": 8 * GIB}),
    "remark_dpo_without_sft": facts(PAIRS, {"chat": False}),
    "remark_length_bias": facts(PAIRS | {"chosen_longer": 0.75}),
    "remark_no_gpu": facts(machine={"kind": "cpu"}),
    "remark_unknown_script": facts({"scripts": {"han": 1.0}, "tokens_per_letter": 1.7}),
    "remark_short_answers": facts({"answer_tokens": 3}),
    "remark_tools": facts({"tool_share": 0.9, "turns": 6}),
}


@pytest.mark.parametrize("code", REMARKABLE)
def test_a_remark_is_made_where_it_belongs_and_not_on_ordinary_rows(code):
    assert code in [remark.code for remark in advise(REMARKABLE[code]).remarks]
    assert code not in [remark.code for remark in advise(facts()).remarks]


def test_every_remark_has_a_case():
    assert {rule.code for rule in REMARKS} == set(REMARKABLE)


@pytest.mark.parametrize("code", CASES)
def test_the_config_is_taken_by_train(code, tmp_path):
    advice = advise(CASES[code][0])
    path = tmp_path / "run.yaml"
    path.write_text(advice.to_yaml(), "utf-8")
    resolved = read.load(path)
    for name, value in advice.settings.items():
        got = getattr(resolved.settings, name)
        assert (list(got) if isinstance(got, tuple) else got) == value, name
    assert resolved.notices == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_language_writes_the_same_settings(lang):
    for given, _ in CASES.values():
        advice = advise(given, lang=lang)
        assert advice.settings == advise(given).settings
        assert yaml.safe_load(advice.to_yaml()).keys() == advice.settings.keys()


@pytest.mark.parametrize(("rows", "least", "most"), [(30, 10, 10), (300, 9, 9), (2_000, 2, 2),
                                                     (100_000, 2, 2)])  # fmt: skip
def test_epochs_are_two_to_ten_and_fall_with_the_amount_of_data(rows, least, most):
    assert least <= advise(facts({"count": rows})).settings["num_train_epochs"] <= most


@pytest.mark.parametrize("count", [60, 800, 5_000, 50_000])
@pytest.mark.parametrize("tokens", [1_000, 10**6, 10**9])
def test_alpha_is_half_to_twice_the_rank(count, tokens):
    chosen = advise(facts({"count": count, "learned_tokens": tokens})).settings
    assert 0.5 <= chosen["lora_alpha"] / chosen["lora_dim"] <= 2.0


def test_a_reason_names_the_numbers_and_its_source():
    advice = advise(facts(), lang="en").to_dict()
    method = next(one for one in advice["reasons"] if one["setting"] == "method")
    assert "800 rows" in method["text"]
    assert "130 GiB" in method["text"]
    assert "thinkingmachines" in method["source"]["where"]
    assert yaml.safe_load(advice["yaml"])["method"] == "lora"


def test_experts_get_no_adapter_on_every_layer():
    assert "lora_target_modules" not in advise(facts(model={"experts": True})).settings
