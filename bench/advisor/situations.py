"""Twelve situations and what the advisor chooses in each.

    python bench/advisor/situations.py --write

Each is a machine, a model of the gallery, and rows as numbers: row counts, lengths and shares as
they are found in data of that kind (those of shared/data where a file is named).  Memory comes from
the planner's formulas, so the same command gives the same table on every machine.
"""

import argparse
from pathlib import Path

import numpy as np

from luthier.advisor.advise import advise
from luthier.advisor.facts import Facts, Rows
from luthier.advisor.measure import measure_machine, measure_model
from luthier.advisor.sources import SOURCES
from luthier.gallery import find_model
from luthier.planner.device import Device

RESULTS = Path(__file__).parents[1] / "results" / "advisor_situations.md"
SHOWN = ("method", "objective", "num_train_epochs", "learning_rate", "lora_dim", "lora_alpha",
         "dpo_beta", "seq_length", "per_device_train_batch_size", "eval_split")  # fmt: skip
LATIN, HAN = {"latin": 1.0}, {"han": 0.93, "latin": 0.07}


def spread(middle, p99, longest):
    """Percentiles 0 to 100 of lengths with this median, 99th percentile and maximum."""
    places = np.interp(range(101), [0, 50, 99, 100], [middle / 4, middle, p99, longest])
    return tuple(round(place) for place in places)


def rows(kind, count, middle, p99, longest, learned, **more):
    """Rows with these lengths, of which so many tokens in the median row are learned."""
    sides = 2 if kind == "pairs" else 1
    return Rows(
        kind, count, count * middle * sides, count * learned * sides, spread(middle, p99, longest),
        answer_tokens=learned, **{"scripts": LATIN, **more},
    )  # fmt: skip


SITUATIONS = {
    "200 rows of TCM questions, a T4": (
        "T4 16GB", "qwen3-4b", rows("conversations", 200, 310, 900, 1400, 180, scripts=HAN, tokens_per_letter=0.7), ""),
    "50,000 rows of instructions, an A100": (
        "A100 80GB", "qwen3-1.7b", rows("conversations", 50_000, 260, 1200, 3900, 150), ""),
    "2,000 preference pairs, an RTX 4090": (
        "RTX 4090", "qwen3-1.7b", rows("pairs", 2_000, 420, 1300, 2600, 220, chosen_longer=0.58), ""),
    "long tool dialogues, an RTX 4090": (
        "RTX 4090", "qwen3-8b", rows("conversations", 1_500, 3200, 9000, 14000, 700, turns=9, tool_share=1.0), "call our tools"),
    "no GPU, 800 rows": (
        "cpu 16GB", "qwen3-0.6b", rows("conversations", 800, 180, 700, 1200, 90), ""),
    "60 rows, an RTX 3060": (
        "RTX 3060 12GB", "qwen3-0.6b", rows("conversations", 60, 150, 400, 420, 80), "a polite tone"),
    "a 32B model, one RTX 4090": (
        "RTX 4090", "qwen3-32b", rows("conversations", 3_000, 300, 1100, 1800, 160), ""),
    "6,000 rows of code, an A100": (
        "A100 80GB", "qwen3-1.7b", rows("conversations", 6_000, 600, 2400, 6000, 420, code_share=0.9), "write Python"),
    "multilingual chats, an L4": (
        "L4 24GB", "qwen3-4b", rows("conversations", 5_000, 500, 2600, 5000, 260, turns=3,
         scripts={"latin": 0.6, "han": 0.2, "cyrillic": 0.2}, tokens_per_letter=0.5), ""),
    "400 pairs after an SFT run, a T4": (
        "T4 16GB", "qwen3-0.6b", rows("pairs", 400, 300, 900, 1200, 140, chosen_longer=0.82), ""),
    "4,000 rows with answers of a word, a T4": (
        "T4 16GB", "qwen3-0.6b", rows("conversations", 4_000, 90, 250, 300, 2), "classify tickets"),
    "1,000 Chinese rows, Llama 2": (
        "A100 80GB", "llama-2-7b", rows("conversations", 1_000, 700, 2600, 4000, 400, scripts=HAN, tokens_per_letter=1.8), ""),
}  # fmt: skip
"""By name: device, gallery model, rows, goal."""


def advice_for(name):
    """What is advised in a situation."""
    device, model, found, goal = SITUATIONS[name]
    known = find_model(model)
    config = dict(known.architecture) | {"max_position_embeddings": known.context}
    machine = measure_machine(config, Device.parse(device), longest=found.longest)
    tuned = "after an SFT run" in name
    facts = measure_model(model, config, tuned=tuned, chat="base" not in model)
    return advise(Facts(found, facts, machine, goal, ("rows.jsonl",)))


def table():
    """The page: a table of choices, then the reasons of each situation."""
    lines = [
        "# Twelve situations",
        "",
        "Written by `python bench/advisor/situations.py --write`.",
        "",
    ]
    lines += ["| situation | model | " + " | ".join(SHOWN) + " |", "|---" * (len(SHOWN) + 2) + "|"]
    for name in SITUATIONS:
        settings = advice_for(name).settings
        cells = [shown(settings.get(setting)) for setting in SHOWN]
        lines.append(f"| {name} | {SITUATIONS[name][1]} | " + " | ".join(cells) + " |")
    for name in SITUATIONS:
        advice = advice_for(name)
        lines += ["", f"## {name}", ""]
        for reason in advice.reasons:
            source = SOURCES[reason.source].title
            lines.append(f"- `{reason.setting}: {shown(reason.value)}` {reason.text()} [{source}]")
        lines += [f"- **{remark.text()}**" for remark in advice.remarks]
    return "\n".join(lines) + "\n"


def shown(value):
    """A value in a cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return (
        f"{value:g}"
        if isinstance(value, float)
        else ", ".join(value)
        if isinstance(value, list)
        else str(value)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page instead of showing it")
    if parser.parse_args().write:
        RESULTS.write_text(table(), "utf-8")
    else:
        print(table())
