"""The twelve situations of bench/advisor: what matters in each, and that the page is current."""

import importlib.util
from pathlib import Path

import pytest

from luthier.config import read

SCRIPT = Path(__file__).parents[2] / "bench" / "advisor" / "situations.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("situations", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXPECTED = {
    "200 rows of TCM questions, a T4": (
        {"method": "lora", "objective": "sft"},
        "alpha_little_data",
    ),
    "50,000 rows of instructions, an A100": ({"method": "full"}, "method_much_data"),
    "2,000 preference pairs, an RTX 4090": ({"objective": "dpo", "dpo_beta": 0.1}, "rate_dpo"),
    "long tool dialogues, an RTX 4090": ({"objective": "sft"}, "remark_tools"),
    "no GPU, 800 rows": ({"method": "lora"}, "remark_no_gpu"),
    "60 rows, an RTX 3060": ({"num_train_epochs": 10, "eval_split": 8}, "epochs"),
    "a 32B model, one RTX 4090": ({"method": "qlora", "load_in_4bit": True}, "method_low_memory"),
    "6,000 rows of code, an A100": ({"method": "full"}, "method_complex"),
    "multilingual chats, an L4": ({"method": "lora"}, "method_few_rows"),
    "400 pairs after an SFT run, a T4": ({"objective": "dpo", "dpo_beta": 0.3}, "method_goes_on"),
    "4,000 rows with answers of a word, a T4": ({"seq_length": 320}, "remark_short_answers"),
    "1,000 Chinese rows, Llama 2": ({"method": "lora"}, "remark_unknown_script"),
}


def test_there_are_twelve(script):
    assert set(EXPECTED) == set(script.SITUATIONS)
    assert len(EXPECTED) == 12


@pytest.mark.parametrize("name", EXPECTED)
def test_what_matters_in_a_situation_is_chosen_and_said(script, name):
    settings, code = EXPECTED[name]
    advice = script.advice_for(name)
    assert settings.items() <= advice.settings.items()
    assert code in [reason.code for reason in (*advice.reasons, *advice.remarks)]
    assert read.load(advice.settings).notices == []
    assert all(reason.text() for reason in advice.reasons)


def test_the_page_is_what_the_script_writes(script):
    assert script.RESULTS.read_text("utf-8") == script.table()
