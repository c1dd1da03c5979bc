"""What settings mean together: what one implies, which pairs exclude each other, which do nothing.

Plain functions of a mapping from setting to value and of the names that were given, so that each
rule is one line of a table.
"""

from collections.abc import Collection, Mapping
from typing import Any

REFERENCE_FREE = frozenset({"simpo", "orpo"})
"""Pair losses without a reference model."""

SIMPO_BETA = 2.0
_SMOOTHED = frozenset({"sigmoid", "sigmoid_norm", "robust", "simpo"})


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _is_zero(value: Any) -> bool:
    return not isinstance(value, bool) and value in (0, "0")


def implied(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that follow from others and were not said, or were said in the other spelling.

    `lora_dim: 0` and `from_scratch` mean full-parameter training, a quantised base with `lora`
    means `qlora`, and `qlora` without a number of bits means 4.  SimPO's beta is no pull towards a
    reference and has a default of its own.
    """
    beta = given.get("dpo_loss_type") == "simpo" and "dpo_beta" not in given
    return _implied_method(given) | ({"dpo_beta": SIMPO_BETA} if beta else {})


def _implied_method(given: Mapping[str, Any]) -> dict[str, Any]:
    quantised = _is_true(given.get("load_in_4bit")) or _is_true(given.get("load_in_8bit"))
    method = given.get("method")
    if method is None and (_is_zero(given.get("lora_dim")) or _is_true(given.get("from_scratch"))):
        return {"method": "full"}
    if method in (None, "lora") and quantised and not _is_zero(given.get("lora_dim")):
        return {"method": "qlora"}
    if method == "qlora" and "load_in_4bit" not in given and not quantised:
        return {"load_in_4bit": True}
    return {}


def contradictions(of: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Every pair of settings that cannot both be meant, in a sentence that names both."""
    full, qlora = of["method"] == "full", of["method"] == "qlora"
    in_4bit, in_8bit = of["load_in_4bit"], of["load_in_8bit"]
    held_out = bool(of["eval_dataset"]) or of["eval_split"] > 0
    loss, smoothing = of["dpo_loss_type"], of["dpo_label_smoothing"]
    pairs, pissa = of["objective"] == "dpo", of["init_lora_weights"] == "pissa"
    ranked = "lora_dim" in given and of["lora_dim"] > 0
    exclude = {
        f"method: full and lora_dim: {of['lora_dim']}": full and ranked,
        "method: full and load_in_4bit: true": full and in_4bit,
        "method: full and load_in_8bit: true": full and in_8bit,
        f"method: {of['method']} and lora_dim: 0": not full and of["lora_dim"] == 0,
        f"method: {of['method']} and from_scratch: true": not full and of["from_scratch"],
        "load_in_4bit: true and load_in_8bit: true": in_4bit and in_8bit,
        "method: qlora and load_in_4bit: false": qlora and not in_4bit and not in_8bit,
        "eval_dataset and eval_split": bool(of["eval_dataset"]) and of["eval_split"] > 0,
        "apply_chat_template: false and chat_template": not of["apply_chat_template"]
        and of["chat_template"] is not None,
        f"share_prefixes: true and lora_dropout: {of['lora_dropout']}": of["share_prefixes"] is True
        and of["lora_dropout"] > 0,
        "share_prefixes: true and neftune_noise_alpha": of["share_prefixes"] is True
        and of["neftune_noise_alpha"] > 0,
        f"use_dora: true and lora_dropout: {of['lora_dropout']:g}": of["use_dora"]
        and of["lora_dropout"] > 0,
        "use_dora: true and method: qlora": of["use_dora"] and qlora,
        "use_dora: true and init_lora_weights: pissa": of["use_dora"] and pissa,
        "init_lora_weights: pissa and method: qlora": pissa and qlora,
        f"dpo_loss_type: {loss} and dpo_label_smoothing: {smoothing:g}": pairs
        and smoothing > 0
        and loss not in _SMOOTHED,
        "dpo_loss_type: orpo and dpo_sft_weight": pairs
        and loss == "orpo"
        and of["dpo_sft_weight"] > 0,
    }
    need = {
        "early_stopping_patience needs eval_dataset or eval_split": not held_out
        and of["early_stopping_patience"] is not None,
        "sample_prompts needs eval_dataset or eval_split: without them nothing is evaluated": not held_out
        and bool(of["sample_prompts"]),
        "dpo_loss_type: robust needs dpo_label_smoothing, the share of swapped pairs": pairs
        and loss == "robust"
        and smoothing == 0,
        "objective: kto needs train_on: assistant or last_assistant; the last answer is judged": of[
            "objective"
        ]
        == "kto"
        and of["train_on"] == "all",
        "resume: true needs output_dir, the run to continue": of["resume"]
        and of["output_dir"] is None,
    }
    found = [f"{pair} exclude each other" for pair, clash in exclude.items() if clash]
    return found + [sentence for sentence, lacking in need.items() if lacking]


def idle(of: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """A sentence for every setting that was given and does nothing in this run."""
    full, dpo, kto = of["method"] == "full", of["objective"] == "dpo", of["objective"] == "kto"
    held_out = bool(of["eval_dataset"]) or of["eval_split"] > 0
    because = {
        "lora_alpha": full and "method is full",
        "lora_dropout": full and "method is full",
        "use_rslora": full and "method is full",
        "use_dora": full and "method is full",
        "init_lora_weights": full and "method is full",
        "loraplus_lr_ratio": full and "method is full",
        "lora_target_modules": full and "method is full",
        "modules_to_save": full and "method is full, which trains every module",
        "master_weights": not full and "adapters always have float32 masters",
        "bnb_4bit_quant_type": not of["load_in_4bit"] and "the base is not held in 4 bits",
        "bnb_4bit_use_double_quant": not of["load_in_4bit"] and "the base is not held in 4 bits",
        "dpo_beta": not (dpo or kto) and f"objective is {of['objective']}",
        "dpo_loss_type": not dpo and f"objective is {of['objective']}",
        "dpo_label_smoothing": not dpo and f"objective is {of['objective']}",
        "dpo_sft_weight": not dpo and f"objective is {of['objective']}",
        "simpo_gamma": not (dpo and of["dpo_loss_type"] == "simpo")
        and "dpo_loss_type is not simpo",
        "kto_desirable_weight": not kto and f"objective is {of['objective']}",
        "chat_template_kwargs": not of["apply_chat_template"] and "apply_chat_template is false",
        "warmup_ratio": of["lr_scheduler_type"] == "constant"
        and of["warmup_ratio"] > 0
        and "constant has no warm-up; constant_with_warmup does",
        "num_train_epochs": of["max_steps"] is not None and "max_steps decides",
        "eval_steps": not held_out and "there is no eval_dataset or eval_split",
        "metric_for_best_model": not held_out and "there is no eval_dataset or eval_split",
    }
    return [f"{name} is ignored: {why}" for name, why in because.items() if why and name in given]
