"""What the class of settings allows, refuses and implies."""

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from luthier.config.rules import idle
from luthier.config.settings import GROUPS, Settings

FREE = {"model": "starter", "dataset": "rows.jsonl"}


def settings(**given):
    return Settings(**{**FREE, **given})


REFUSED = {
    "learning_rate": [0, -1e-4, math.nan, math.inf, 1e9, "fast", True],
    "num_train_epochs": [0, -1, 1e9, math.nan],
    "max_steps": [0, -1, 2.5, True],
    "per_device_train_batch_size": [0, -1, 2.5, True, "big"],
    "gradient_accumulation_steps": [0, 1.5, False],
    "micro_batch_tokens": [0, 7, "some"],
    "lora_dim": [-1, 10**6, 1.5, True],
    "lora_alpha": [0, -1, math.nan],
    "lora_dropout": [1.0, -0.1, 2],
    "lora_target_modules": [(), [""], 3],
    "seq_length": [1, 0, -5, 10**9, True],
    "dpo_beta": [0, -0.1, math.inf, math.nan],
    "dpo_label_smoothing": [0.5, -0.1, 1],
    "warmup_ratio": [1, 1.5, -0.1],
    "seed": [-1, 2**64, "abc", 1.5, True],
    "devices": [0, -1, "mps", "cuda:99", [], [0, 0], True],
    "load_in_4bit": ["no", "yes", 1, 0, "4", None],
    "resume": ["no", "checkpoint-12", 1],
    "share_prefixes": ["yes", 1],
    "encoding": ["utf-99", "", "punycode", "idna", "unicode_escape"],
    "output_dir": ["", "a\nb", "a\x00b", "x" * 4096],
    "model": ["", "a\nb", 7],
    "dataset": [[], "", [""], 7, [1]],
    "eval_split": [-0.1, 1.5, math.nan, True],
    "objective": ["ppo", "DPO", 1],
    "method": ["dora", True],
    "optim": ["sgd", "adam"],
    "gradient_checkpointing": ["some", 3],
    "early_stopping_patience": [0, -1],
    "logging_steps": [0, "epoch"],
    "sample_prompts": [[""], ["  "], ["x"] * 9, ["x" * 5000], 7, [1]],
    "save_steps": [0, "never", True],
    "columns": ["text", {"text": 1}, [1]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_a_value_outside_its_range_is_refused_by_name(name, value):
    with pytest.raises(ValidationError) as caught:
        settings(**{name: value})
    assert {str(error["loc"][0]) for error in caught.value.errors()} == {name}


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        ("learning_rate", "1e-4", 1e-4),
        ("num_train_epochs", 0.5, 0.5),
        ("per_device_train_batch_size", "auto", "auto"),
        ("per_device_train_batch_size", "16", 16),
        ("eval_split", 200, 200),
        ("torch_dtype", "bf16", "bfloat16"),
        ("optim", "adamw_torch_fused", "adamw_torch"),
        ("metric_for_best_model", "eval_loss", "loss"),
        ("gradient_checkpointing", True, "full"),
        ("gradient_checkpointing", "false", "none"),
        ("share_prefixes", "true", True),
        ("dataset", Path("rows of mine; rm -rf.jsonl"), ("rows of mine; rm -rf.jsonl",)),
        ("model", Path('-ein Modell für "Ä"'), '-ein Modell für "Ä"'),
        ("encoding", "Latin-1", "iso8859-1"),
        ("lora_target_modules", "all-linear", ("all-linear",)),
        ("max_grad_norm", 0, 0.0),
        ("resume", "false", False),
    ],
)
def test_a_value_is_read_as_it_is_meant(name, value, meaning):
    assert getattr(settings(**{name: value}), name) == meaning


def test_the_class_is_frozen_and_refuses_unknown_names():
    with pytest.raises(ValidationError, match="frozen"):
        settings().seed = 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        settings(lora_dmi=3)


@pytest.mark.parametrize(
    ("given", "method", "in_4bit"),
    [
        ({}, "lora", False),
        ({"lora_dim": 0}, "full", False),
        ({"lora_dim": "0"}, "full", False),
        ({"from_scratch": True}, "full", False),
        ({"load_in_4bit": True}, "qlora", True),
        ({"load_in_4bit": "true", "method": "lora"}, "qlora", True),
        ({"load_in_8bit": True}, "qlora", False),
        ({"method": "qlora"}, "qlora", True),
        ({"method": "qlora", "load_in_8bit": True}, "qlora", False),
    ],
)
def test_what_follows_from_the_settings_given(given, method, in_4bit):
    found = settings(**given)
    assert (found.method, found.load_in_4bit) == (method, in_4bit)


def test_simpo_has_a_beta_of_its_own_unless_one_is_given():
    assert settings(objective="dpo", dpo_loss_type="simpo").dpo_beta == 2.0
    assert settings(objective="dpo", dpo_loss_type="simpo", dpo_beta=2.5).dpo_beta == 2.5
    assert settings(objective="dpo", dpo_loss_type="slic").dpo_beta == 0.1


def test_which_losses_compare_with_a_reference():
    assert settings(objective="dpo").needs_reference
    assert settings(objective="dpo", dpo_loss_type="ipo").needs_reference
    assert not settings(objective="dpo", dpo_loss_type="simpo").needs_reference
    assert not settings(objective="dpo", dpo_loss_type="orpo").needs_reference
    assert settings(objective="kto").needs_reference
    assert not settings(objective="sft").needs_reference


CONTRADICTIONS = [
    ({"method": "full", "lora_dim": 64}, "method: full", "lora_dim: 64"),
    ({"method": "full", "load_in_4bit": True}, "method: full", "load_in_4bit"),
    ({"method": "full", "load_in_8bit": True}, "method: full", "load_in_8bit"),
    ({"method": "lora", "lora_dim": 0}, "method: lora", "lora_dim: 0"),
    ({"load_in_4bit": True, "lora_dim": 0}, "load_in_4bit", "method: full"),
    ({"load_in_4bit": True, "load_in_8bit": True}, "load_in_4bit", "load_in_8bit"),
    ({"method": "qlora", "load_in_4bit": False}, "method: qlora", "load_in_4bit"),
    ({"method": "lora", "from_scratch": True}, "method: lora", "from_scratch"),
    ({"eval_dataset": "e.jsonl", "eval_split": 0.1}, "eval_dataset", "eval_split"),
    (
        {"apply_chat_template": False, "chat_template": "x"},
        "apply_chat_template: false",
        "chat_template",
    ),
    ({"share_prefixes": True, "lora_dropout": 0.1}, "share_prefixes", "lora_dropout: 0.1"),
    ({"early_stopping_patience": 2}, "early_stopping_patience", "eval_dataset"),
    ({"sample_prompts": ["q"]}, "sample_prompts", "eval_dataset"),
    ({"resume": True}, "resume", "output_dir"),
    ({"share_prefixes": True, "neftune_noise_alpha": 5}, "share_prefixes", "neftune_noise_alpha"),
    ({"use_dora": True, "lora_dropout": 0.1}, "use_dora", "lora_dropout: 0.1"),
    ({"use_dora": True, "load_in_4bit": True}, "use_dora", "method: qlora"),
    ({"use_dora": True, "init_lora_weights": "pissa"}, "use_dora", "init_lora_weights: pissa"),
    ({"load_in_8bit": True, "init_lora_weights": "pissa"}, "pissa", "method: qlora"),
    ({"objective": "kto", "train_on": "all"}, "objective: kto", "train_on"),
    (
        {"objective": "dpo", "dpo_loss_type": "hinge", "dpo_label_smoothing": 0.1},
        "dpo_loss_type: hinge",
        "dpo_label_smoothing: 0.1",
    ),
    (
        {"objective": "dpo", "dpo_loss_type": "robust"},
        "dpo_loss_type: robust",
        "dpo_label_smoothing",
    ),
    (
        {"objective": "dpo", "dpo_loss_type": "orpo", "dpo_sft_weight": 1},
        "dpo_loss_type: orpo",
        "dpo_sft_weight",
    ),
]


@pytest.mark.parametrize(("given", "one", "other"), CONTRADICTIONS)
def test_a_contradiction_names_both_settings(given, one, other):
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    message = caught.value.errors()[0]["msg"]
    assert one in message
    assert other in message


def test_all_contradictions_come_together():
    with pytest.raises(ValidationError) as caught:
        settings(method="full", lora_dim=8, load_in_4bit=True, resume=True)
    assert caught.value.errors()[0]["msg"].count("\n") == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dpo_beta": 0.2}, "dpo_beta is ignored: objective is sft"),
        ({"lr_scheduler_type": "constant", "warmup_ratio": 0.1}, "constant_with_warmup"),
        ({"method": "full", "lora_dropout": 0.1}, "lora_dropout is ignored: method is full"),
        ({"bnb_4bit_quant_type": "fp4"}, "bnb_4bit_quant_type is ignored"),
        ({"max_steps": 5, "num_train_epochs": 2}, "num_train_epochs is ignored"),
        ({"eval_steps": 5}, "eval_steps is ignored"),
        ({"master_weights": "none"}, "master_weights is ignored"),
        (
            {"objective": "dpo", "simpo_gamma": 1},
            "simpo_gamma is ignored: dpo_loss_type is not simpo",
        ),
    ],
)
def test_a_setting_that_does_nothing_is_reported(given, said):
    found = idle(settings(**given).__dict__, given)
    assert len(found) == 1
    assert said in found[0]


def test_nothing_is_said_about_defaults_that_do_nothing():
    assert idle(settings().__dict__, ()) == []


def test_the_groups_begin_at_settings_in_their_order():
    order = list(Settings.model_fields)
    starts = [order.index(name) for name in GROUPS.values()]
    assert starts == sorted(starts)
    assert starts[0] == 0
