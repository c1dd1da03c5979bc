"""DPO beside TRL's DPOTrainer: one epoch of the same pairs, the scoring of the reference included.

    python bench/dpo_vs_trl.py [--dtype float32|bfloat16|both] [--rounds N] [--pairs N]

The model, adapter and rules of `sft_vs_trl.py`, on the first pairs of `dpo_en_demo.json`, batch 4.
All steps count, none is a warm-up: luthier scores the reference before its first step, TRL within
every step, and a user waits for both.  TRL as it comes, and without recomputation.
"""

import argparse
import os
from typing import Any

from versus import Side, compare
from workload import Work

SIDES = {
    "luthier": Side("luthier", {}),
    "TRL, defaults": Side("trl", {}),
    "TRL, no recomputation": Side("trl", {"gradient_checkpointing": False}),
}
PAIRS = {"float32": 24, "bfloat16": 8}  # emulated bfloat16 takes ten times longer


def measure(
    dtype: str, *, pairs: int | None = None, rounds: int = 2, threads: int | None = None
) -> dict[str, Any]:
    """One dtype, all sides."""
    pairs = pairs or PAIRS[dtype]
    work = Work(
        rows="preference/dpo_en_demo.json",
        num_rows=pairs,
        objective="dpo",
        dtype=dtype,
        steps=-(-pairs // 4),
        learning_rate=5e-5,
        threads=threads or os.cpu_count() or 1,
    )
    return compare("dpo_vs_trl", work, SIDES, rounds=rounds, warmup=0)


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=[*PAIRS, "both"], default="both")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    for dtype in PAIRS if chosen.dtype == "both" else [chosen.dtype]:
        measure(dtype, pairs=chosen.pairs, rounds=chosen.rounds, threads=chosen.threads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
