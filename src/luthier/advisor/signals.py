"""What the rules ask of the facts: one small function or constant each."""

import math
from collections.abc import Mapping
from typing import Any

from luthier.advisor.facts import Facts
from luthier.config import defaults

TOO_FEW, LITTLE_ROWS, COMPLEX_ROWS, MUCH_ROWS = 50, 1_000, 5_000, 20_000
"""Rows: too few for anything but a style; few enough that one step counts; enough for a complex
task to want every weight; enough for any task."""

TOO_FEW_TO_SPLIT = 30
FEW_PAIRS = 1_000
SHORT_ANSWER = 8
SHARE_OF_TOOLS = 0.2
SHARE_OF_CODE = 0.3
LONG_ANSWER = 400
MUCH_TEXT = 1_000_000
LARGE_FOR_CPU = 500_000_000
SMALL_MODEL = 50_000_000
"""Below this every weight is trained: memory is no reason against it, and on the starter model
adapters were far behind (docs/advisor.md)."""

WANTED_STEPS = 150
SPELT_OUT = 1.0
"""Tokens for a letter: a tokenizer that knows a script writes several letters with one token."""

RANKS = (8, 16, 32, 64, 128)
NARROW = 1024
"""Below this width the published learning rates were never measured; ours were, at 128."""

EXPONENTS = {"llama": 0.781, "qwen2": 0.0775, "qwen3": 0.0775}
WIDE, RATE_AT_WIDE = 2000, 5e-4

WORDS = {
    "code": ("code", "coding", "program", "python", "sql", "代码", "编程", "kode", "lập trình"),
    "mathematics": ("math", "algebra", "proof", "数学", "matematika", "toán"),
    "reasoning": ("reason", "step by step", "推理", "penalaran", "suy luận"),
    "translation": ("translat", "翻译", "terjemah", "dịch"),
}
"""What a goal may say that means a complex task, by the word that the reason uses."""

Chosen = Mapping[str, Any]


def complexity(f: Facts) -> str | None:
    """Why the task is complex, in a word or two of English; None where nothing says so."""
    goal = f.goal.lower()
    for signal, words in WORDS.items():
        if any(word in goal for word in words):
            return signal
    if f.rows.code_share >= SHARE_OF_CODE:
        return "code"
    if f.rows.tool_share >= SHARE_OF_TOOLS:
        return "tools"
    if f.rows.answer_tokens >= LONG_ANSWER:
        return "long answers"
    return None


def spelt_out(f: Facts) -> bool:
    """Whether the tokenizer spells a fifth or more of the letters out in pieces of a letter."""
    foreign = 1 - f.rows.scripts.get("latin", 0.0) if f.rows.scripts else 0.0
    return foreign >= 0.2 and f.rows.tokens_per_letter >= SPELT_OUT


def length_biased(f: Facts) -> bool:
    """Whether length alone tells chosen from rejected in seven pairs of ten."""
    return f.rows.kind == "pairs" and abs(f.rows.chosen_longer - 0.5) >= 0.2


def rank_for(f: Facts) -> int:
    """The smallest rank whose adapter has as many parameters as there are tokens to learn."""
    least = 16 if f.rows.count >= 300 or f.rows.kind == "pairs" else 8
    per_rank = max(1, f.model.adapter_per_rank)
    wanted = [r for r in RANKS if r >= least and r * per_rank >= f.rows.learned_tokens]
    return min(wanted[0] if wanted else RANKS[-1], max(8, f.model.hidden // 4))


def capacity(f: Facts) -> dict[str, int]:
    """Parameters of the adapter beside the tokens it has to learn, for the message."""
    rank = rank_for(f)
    return {
        "rank": rank,
        "capacity": rank * f.model.adapter_per_rank,
        "tokens": f.rows.learned_tokens,
    }


def rounded(length: int) -> int:
    """Up to a multiple of 64 tokens, at least 128."""
    return max(128, math.ceil(length / 64) * 64)


def room(f: Facts, method: Any) -> int:
    """Tokens of the longest sequence for which a method has memory; the longest row if none is cut."""
    return min(f.rows.longest, f.machine.room.get(method, f.rows.longest))


def needs_room(f: Facts) -> bool:
    """Whether a 4-bit base would save more than one row in a hundred from being cut."""
    return room(f, "lora") < f.rows.lengths[99] and room(f, "qlora") > room(f, "lora")


def cost_of_cut(f: Facts, limit: int) -> dict[str, Any]:
    """What a limit takes, for the message."""
    return {
        "limit": limit,
        "cut_at": limit,
        "longest": f.rows.longest,
        "p50": f.rows.lengths[50],
        "p99": f.rows.lengths[99],
        "rows_cut": f.rows.share_over(limit),
        "tokens_lost": f.rows.tokens_lost(limit),
    }


def held_out_rows(f: Facts) -> int:
    """A tenth, between 8 and 500 rows."""
    return max(8, min(500, round(f.rows.count / 10)))


def train_rows(f: Facts, c: Chosen) -> int:
    """Rows that are left to learn from."""
    split = float(c.get("eval_split", 0))
    return max(1, f.rows.count - round(split * f.rows.count if split < 1 else split))


def holds_out(c: Chosen) -> bool:
    """Whether there is anything to evaluate on."""
    return bool(c.get("eval_dataset")) or c.get("eval_split", 0) > 0


def batch(f: Facts, c: Chosen) -> tuple[int, str]:
    """Samples a step and device, by the rule of every run."""
    return defaults.per_device_batch_default(
        c["objective"], num_samples=train_rows(f, c), devices=f.machine.devices
    )


def steps_per_epoch(f: Facts, c: Chosen) -> int:
    """Optimiser steps of one pass."""
    return math.ceil(train_rows(f, c) / (batch(f, c)[0] * f.machine.devices))


def epochs(f: Facts, c: Chosen) -> int:
    """As many passes as make about 150 steps, 2 to 10."""
    return min(10, max(2, round(WANTED_STEPS / steps_per_epoch(f, c))))


def exponent(f: Facts) -> float:
    """How the learning rate falls with the width: by family, and one for narrow models."""
    known = EXPONENTS.get(f.model.family, 0.43)  # other families: midway between the two measured
    return 0.781 if f.model.hidden < NARROW else known


def adapter_rate(f: Facts) -> float:
    """The learning rate of an adapter with alpha 32, before rank and alpha are looked at."""
    return rounded_rate(RATE_AT_WIDE * (WIDE / max(1, f.model.hidden)) ** exponent(f))


def scaled_rate(f: Facts, c: Chosen) -> float:
    """The same for the alpha chosen, since an update grows with alpha, and half of it from 30B on
    (QLoRA, table 9)."""
    scale = math.sqrt(32.0 / float(c.get("lora_alpha", 32.0)))
    large = 0.5 if f.model.parameters >= defaults.LARGE else 1.0
    return rounded_rate(adapter_rate(f) * large * min(1.0, max(0.5, scale)))


def dpo_rate(f: Facts, c: Chosen) -> float:
    """That of every run, and wider steps for narrow models as in SFT."""
    rate, _ = defaults.learning_rate_default(c["method"], "dpo", num_params=f.model.parameters)
    if f.model.hidden >= NARROW:
        return rate
    return rounded_rate(rate * (NARROW / f.model.hidden) ** exponent(f))


def rounded_rate(rate: float) -> float:
    """Two digits."""
    return float(f"{rate:.1e}")
