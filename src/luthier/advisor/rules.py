"""The rules, as a table: the first row of a setting whose condition holds decides it.

A row is: setting, code of its message, source, condition, value, numbers for the message.  Each is
a function of the facts and of what was chosen above it.  The table is read from top to bottom.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from luthier.advisor import signals as s
from luthier.advisor.facts import Facts

Chosen = Mapping[str, Any]


class AdviceRule(NamedTuple):
    """One row of the table."""

    setting: str
    code: str
    source: str
    when: Callable[[Facts, Chosen], bool]
    value: Callable[[Facts, Chosen], Any]
    params: Callable[[Facts, Chosen], dict[str, Any]] = lambda f, c: {}


def _always(f: Facts, c: Chosen) -> bool:
    return True


def _is(value: Any) -> Callable[[Facts, Chosen], Any]:
    return lambda f, c: value


def _memory(f: Facts, c: Chosen) -> dict[str, Any]:
    needs = {f"{method}_needs": size for method, size in f.machine.needs.items()}
    return {
        "device": f.machine.name,
        "memory": f.machine.memory_bytes,
        "rows": f.rows.count,
        **needs,
    }


def _dpo(f: Facts, c: Chosen) -> bool:
    return bool(c["objective"] == "dpo")


def _likes(f: Facts, c: Chosen) -> bool:
    return bool(c["objective"] in ("dpo", "kto"))


def _adapter(f: Facts, c: Chosen) -> bool:
    return bool(c["method"] != "full")


OBJECTIVE = (
    AdviceRule(
        "objective", "objective_pairs", "dpo",
        lambda f, c: f.rows.kind == "pairs", _is("dpo"),
        lambda f, c: {"pairs": f.rows.count},
    ),
    AdviceRule(
        "objective", "objective_labels", "data",
        lambda f, c: f.rows.kind == "feedback", _is("kto"), lambda f, c: {"rows": f.rows.count},
    ),
    AdviceRule(
        "objective", "objective_texts", "data",
        lambda f, c: f.rows.kind == "texts", _is("text"),
        lambda f, c: {"rows": f.rows.count, "tokens": f.rows.tokens},
    ),
    AdviceRule(
        "objective", "objective_answers", "data", _always, _is("sft"),
        lambda f, c: {"rows": f.rows.count, "tokens": f.rows.learned_tokens},
    ),
)  # fmt: skip

METHOD = (
    AdviceRule(
        "method", "method_goes_on", "data",
        lambda f, c: f.model.tuned, lambda f, c: "lora" if f.machine.fits("lora") else "qlora",
        lambda f, c: {"model": f.model.name},
    ),
    AdviceRule(
        "method", "method_small_model", "luthier",
        lambda f, c: f.model.parameters < s.SMALL_MODEL and not _likes(f, c) and f.machine.fits("full"),
        _is("full"), lambda f, c: {"parameters": f.model.parameters, **_memory(f, c)},
    ),
    AdviceRule(
        "method", "method_unknown_script", "chinese_llama",
        lambda f, c: s.spelt_out(f) and not _likes(f, c) and f.machine.fits("full"), _is("full"),
        lambda f, c: {
            "per_letter": f.rows.tokens_per_letter, "share": 1 - f.rows.scripts.get("latin", 0.0),
            **_memory(f, c),
        },
    ),
    AdviceRule(
        "method", "method_complex", "less",
        lambda f, c: s.complexity(f) is not None and f.rows.count >= s.COMPLEX_ROWS
        and not _likes(f, c) and f.machine.fits("full"), _is("full"),
        lambda f, c: {"signal": s.complexity(f), **_memory(f, c)},
    ),
    AdviceRule(
        "method", "method_much_data", "less",
        lambda f, c: f.rows.count >= s.MUCH_ROWS and not _likes(f, c) and f.machine.fits("full"),
        _is("full"), _memory,
    ),
    AdviceRule(
        "method", "method_long_rows", "qlora",
        lambda f, c: f.machine.fits("lora") and s.needs_room(f), _is("qlora"),
        lambda f, c: {
            "p99": f.rows.lengths[99], "lora_room": s.room(f, "lora"), "qlora_room": s.room(f, "qlora"),
            **_memory(f, c),
        },
    ),
    AdviceRule(
        "method", "method_few_rows", "regret",
        lambda f, c: f.machine.fits("lora") and f.rows.count < s.MUCH_ROWS, _is("lora"), _memory,
    ),
    AdviceRule(
        "method", "method_lora_memory", "less",
        lambda f, c: f.machine.fits("lora"), _is("lora"), _memory,
    ),
    AdviceRule(
        "method", "method_low_memory", "qlora",
        lambda f, c: f.machine.fits("qlora"), _is("qlora"), _memory,
    ),
    AdviceRule("method", "method_nothing_fits", "plan", _always, _is("qlora"), _memory),
    AdviceRule(
        "load_in_4bit", "four_bits", "qlora",
        lambda f, c: c["method"] == "qlora", _is(True),
        lambda f, c: {"model": f.model.name, "parameters": f.model.parameters},
    ),
    AdviceRule(
        "bnb_4bit_use_double_quant", "double_quant", "qlora",
        lambda f, c: c["method"] == "qlora" and f.machine.needs["qlora"] > 0.8 * f.machine.usable,
        _is(True), lambda f, c: {"saves": int(f.model.parameters * 0.37 / 8)},
    ),
)  # fmt: skip

ADAPTER = (
    AdviceRule(
        "lora_target_modules", "targets_all", "regret",
        lambda f, c: _adapter(f, c) and not f.model.tuned and not f.model.experts, _is(["all-linear"]),
    ),
    AdviceRule(
        "lora_dim", "rank_capped", "regret",
        lambda f, c: _adapter(f, c) and not f.model.tuned
        and s.rank_for(f) * f.model.adapter_per_rank < f.rows.learned_tokens,
        lambda f, c: s.rank_for(f), lambda f, c: s.capacity(f),
    ),
    AdviceRule(
        "lora_dim", "rank_capacity", "regret",
        lambda f, c: _adapter(f, c) and not f.model.tuned,
        lambda f, c: s.rank_for(f), lambda f, c: s.capacity(f),
    ),
    AdviceRule(
        "lora_alpha", "alpha_little_data", "pai",
        lambda f, c: "lora_dim" in c and f.rows.count < s.LITTLE_ROWS,
        lambda f, c: 2.0 * c["lora_dim"], lambda f, c: {"rows": f.rows.count, "rank": c["lora_dim"]},
    ),
    AdviceRule(
        "lora_alpha", "alpha_much_data", "pai",
        lambda f, c: "lora_dim" in c and f.rows.count >= s.MUCH_ROWS,
        lambda f, c: 0.5 * c["lora_dim"], lambda f, c: {"rows": f.rows.count, "rank": c["lora_dim"]},
    ),
    AdviceRule(
        "lora_alpha", "alpha_equal", "pai", lambda f, c: "lora_dim" in c,
        lambda f, c: float(c["lora_dim"]), lambda f, c: {"rows": f.rows.count, "rank": c["lora_dim"]},
    ),
    AdviceRule(
        "dpo_beta", "beta_few_pairs", "dpo",
        lambda f, c: _dpo(f, c) and f.rows.count < s.FEW_PAIRS, _is(0.3),
        lambda f, c: {"pairs": f.rows.count, "few": s.FEW_PAIRS},
    ),
    AdviceRule(
        "dpo_beta", "beta_length_bias", "length",
        lambda f, c: _dpo(f, c) and s.length_biased(f), _is(0.2),
        lambda f, c: {"share": max(f.rows.chosen_longer, 1 - f.rows.chosen_longer)},
    ),
    AdviceRule(
        "dpo_beta", "beta_many_pairs", "zephyr", _dpo, _is(0.1),
        lambda f, c: {"pairs": f.rows.count},
    ),
)  # fmt: skip

LENGTH = (
    AdviceRule(
        "seq_length", "length_context", "data",
        lambda f, c: f.model.context is not None and f.rows.longest > f.model.context
        and s.room(f, c["method"]) >= f.model.context,
        lambda f, c: f.model.context, lambda f, c: s.cost_of_cut(f, f.model.context or 0),
    ),
    AdviceRule(
        "seq_length", "length_memory", "plan",
        lambda f, c: s.room(f, c["method"]) < f.rows.longest,
        lambda f, c: s.room(f, c["method"]),
        lambda f, c: {**s.cost_of_cut(f, s.room(f, c["method"])), **_memory(f, c)},
    ),
    AdviceRule(
        "seq_length", "length_outliers", "data",
        lambda f, c: f.rows.longest > 4 * f.rows.lengths[99] and f.rows.longest > 2048,
        lambda f, c: s.rounded(f.rows.lengths[99]),
        lambda f, c: s.cost_of_cut(f, s.rounded(f.rows.lengths[99])),
    ),
    AdviceRule(
        "seq_length", "length_all", "data", _always,
        lambda f, c: s.rounded(f.rows.longest),
        lambda f, c: s.cost_of_cut(f, s.rounded(f.rows.lengths[90])) | {"limit": s.rounded(f.rows.longest)},
    ),
)  # fmt: skip

AMOUNT = (
    AdviceRule(
        "eval_split", "split_none", "data",
        lambda f, c: not c.get("eval_dataset") and f.rows.count < s.TOO_FEW_TO_SPLIT, _is(0), lambda f, c: {"rows": f.rows.count},
    ),
    AdviceRule(
        "eval_split", "split_rows", "data", lambda f, c: not c.get("eval_dataset"),
        lambda f, c: s.held_out_rows(f),
        lambda f, c: {"held_out": s.held_out_rows(f), "rows": f.rows.count},
    ),
    AdviceRule(
        "per_device_train_batch_size", "batch", "regret", _always,
        lambda f, c: s.batch(f, c)[0],
        lambda f, c: {"samples": s.batch(f, c)[0], "steps": s.steps_per_epoch(f, c), "rows": s.train_rows(f, c)},
    ),
    AdviceRule(
        "num_train_epochs", "epochs_pairs_few", "zephyr",
        lambda f, c: _dpo(f, c) and f.rows.count < s.FEW_PAIRS, _is(3),
        lambda f, c: {"pairs": f.rows.count},
    ),
    AdviceRule(
        "num_train_epochs", "epochs_pairs", "zephyr", _dpo, _is(2),
        lambda f, c: {"pairs": f.rows.count},
    ),
    AdviceRule(
        "num_train_epochs", "epochs_text", "data",
        lambda f, c: c["objective"] == "text" and f.rows.tokens >= s.MUCH_TEXT, _is(2),
        lambda f, c: {"tokens": f.rows.tokens},
    ),
    AdviceRule(
        "num_train_epochs", "epochs", "pai", _always,
        lambda f, c: s.epochs(f, c),
        lambda f, c: {
            "rows": s.train_rows(f, c), "steps": s.steps_per_epoch(f, c),
            "total": s.epochs(f, c) * s.steps_per_epoch(f, c), "epochs": s.epochs(f, c),
        },
    ),
    AdviceRule(
        "eval_steps", "evaluate_often", "data",
        lambda f, c: s.holds_out(c) and s.steps_per_epoch(f, c) > 400,
        lambda f, c: max(50, s.steps_per_epoch(f, c) // 4),
        lambda f, c: {"steps": s.steps_per_epoch(f, c)},
    ),
    AdviceRule(
        "early_stopping_patience", "stop_early", "data",
        lambda f, c: s.holds_out(c), lambda f, c: 2 if c["num_train_epochs"] <= 5 else 3,
        lambda f, c: {"epochs": c["num_train_epochs"]},
    ),
)  # fmt: skip

RATE = (
    AdviceRule(
        "learning_rate", "rate_dpo_small", "luthier",
        lambda f, c: _likes(f, c) and f.model.hidden < s.NARROW,
        lambda f, c: s.dpo_rate(f, c), lambda f, c: {"hidden": f.model.hidden},
    ),
    AdviceRule(
        "learning_rate", "rate_dpo", "zephyr", _likes,
        lambda f, c: s.dpo_rate(f, c), lambda f, c: {"rate": s.dpo_rate(f, c), "method": c["method"]},
    ),
    AdviceRule(
        "learning_rate", "rate_full_small", "luthier",
        lambda f, c: c["method"] == "full" and f.model.hidden < s.NARROW,
        lambda f, c: s.rounded_rate(s.adapter_rate(f) / 2), lambda f, c: {"hidden": f.model.hidden},
    ),
    AdviceRule(
        "learning_rate", "rate_full", "tinker",
        lambda f, c: c["method"] == "full", lambda f, c: s.rounded_rate(s.adapter_rate(f) / 10),
        lambda f, c: {"hidden": f.model.hidden, "adapter": s.adapter_rate(f)},
    ),
    AdviceRule(
        "learning_rate", "rate_small_model", "luthier",
        lambda f, c: f.model.hidden < s.NARROW,
        lambda f, c: s.scaled_rate(f, c),
        lambda f, c: {"hidden": f.model.hidden, "alpha": c.get("lora_alpha", 32.0)},
    ),
    AdviceRule(
        "learning_rate", "rate_adapter", "tinker", _always,
        lambda f, c: s.scaled_rate(f, c),
        lambda f, c: {
            "hidden": f.model.hidden, "exponent": s.exponent(f), "base": s.adapter_rate(f),
            "alpha": c.get("lora_alpha", 32.0), "rank": c.get("lora_dim", 32),
        },
    ),
    AdviceRule("lr_scheduler_type", "schedule", "zephyr", _always, _is("cosine")),
    AdviceRule(
        "warmup_ratio", "warmup_dpo", "zephyr", _likes, _is(0.1),
        lambda f, c: {"steps": math.ceil(0.1 * c["num_train_epochs"] * s.steps_per_epoch(f, c))},
    ),
    AdviceRule(
        "warmup_ratio", "warmup", "qlora", _always, _is(0.03),
        lambda f, c: {"steps": math.ceil(0.03 * c["num_train_epochs"] * s.steps_per_epoch(f, c))},
    ),
)  # fmt: skip

TABLE: tuple[AdviceRule, ...] = (*OBJECTIVE, *METHOD, *ADAPTER, *LENGTH, *AMOUNT, *RATE)
"""Every rule, in the order in which they are asked."""

REMARKS: tuple[AdviceRule, ...] = (
    AdviceRule(
        "", "remark_too_few", "lima",
        lambda f, c: f.rows.count < s.TOO_FEW, _is(None), lambda f, c: {"rows": f.rows.count},
    ),
    AdviceRule("", "remark_nothing_fits", "plan",
         lambda f, c: not any(map(f.machine.fits, f.machine.needs)), _is(None), _memory),
    AdviceRule(
        "", "remark_dpo_without_sft", "dpo",
        lambda f, c: _dpo(f, c) and not f.model.tuned and not f.model.chat, _is(None),
        lambda f, c: {"model": f.model.name},
    ),
    AdviceRule(
        "", "remark_length_bias", "length",
        lambda f, c: _dpo(f, c) and s.length_biased(f), _is(None),
        lambda f, c: {"share": f.rows.chosen_longer},
    ),
    AdviceRule(
        "", "remark_no_gpu", "plan",
        lambda f, c: f.machine.kind == "cpu" and f.model.parameters > s.LARGE_FOR_CPU, _is(None),
        lambda f, c: {"parameters": f.model.parameters},
    ),
    AdviceRule(
        "", "remark_unknown_script", "chinese_llama",
        lambda f, c: s.spelt_out(f) and c["method"] != "full", _is(None),
        lambda f, c: {"per_letter": f.rows.tokens_per_letter},
    ),
    AdviceRule(
        "", "remark_short_answers", "data",
        lambda f, c: c["objective"] == "sft" and 0 < f.rows.answer_tokens <= s.SHORT_ANSWER, _is(None),
        lambda f, c: {"tokens": f.rows.answer_tokens},
    ),
    AdviceRule(
        "", "remark_tools", "data",
        lambda f, c: f.rows.tool_share >= s.SHARE_OF_TOOLS, _is(None),
        lambda f, c: {"share": f.rows.tool_share, "turns": f.rows.turns},
    ),
)  # fmt: skip
"""Sentences that set nothing."""
