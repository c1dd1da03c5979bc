"""However a step is cut, shared, recomputed or spread, the run through the command line is the same."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.invariants.conftest import Bench
from tests.invariants.runs import (
    assert_same_bytes,
    checkpoints,
    curve,
    largest_difference,
    read_events,
)

STEPS = 100
BATCH = {
    "per_device_train_batch_size": 8,
    "eval_steps": STEPS,
    "learning_rate": 1e-3,
    "max_steps": STEPS,
    "save_total_limit": 1,
}
RANKS = {"devices": 2, "per_device_train_batch_size": 4}
PLAIN: dict[str, dict[str, Any]] = {
    "8x1": {},
    "4x2": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "1x8": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "cut into 3 or 4": {"micro_batch_tokens": 120},
    "one at a time": {"micro_batch_tokens": 8},
    "shared": {"share_prefixes": "true"},
    "not shared": {"share_prefixes": "false"},
    "recomputed": {"gradient_checkpointing": "full"},
    "evaluated at every step": {"eval_steps": 1},
    "two ranks": RANKS,
}
DROPOUT: dict[str, dict[str, Any]] = {
    "8x1": {},
    "one at a time": {"micro_batch_tokens": 8},
    "recomputed": {"gradient_checkpointing": "full"},
    "two ranks": RANKS,
}
LAUNCHED = ("two ranks", "again")  # as commands of their own


def train(bench: Bench, work: Path, name: str, **settings: Any) -> Path:
    """Run a variant through the command line; its directory."""
    run = work / name
    words = bench.words(**{**BATCH, "eval_dataset": bench.held_out, **settings}, output_dir=run)
    if name not in LAUNCHED:
        bench.server.run(*words)
        return run
    command = [sys.executable, "-m", "luthier.cli.main", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return run


def compare(base: Path, other: Path) -> None:
    """Within the bounds that float32 needs."""
    name = other.name
    losses, others = curve(base), curve(other)
    assert len(losses) == len(others) == STEPS, name
    assert losses[-10:].mean() < losses[:10].mean() - 0.5, "the run learns nothing"
    assert np.abs(losses - others).max() <= 1e-5, name
    assert abs((losses - others).mean()) <= 1e-6, name
    norms, other_norms = curve(base, "grad_norm"), curve(other, "grad_norm")
    assert (np.abs(norms - other_norms) / norms).max() <= 1e-4, name
    assert (curve(base, "units") == curve(other, "units")).all(), name
    assert checkpoints(base)[-1].name == checkpoints(other)[-1].name == f"step-{STEPS:06d}"
    assert largest_difference(checkpoints(base)[-1], checkpoints(other)[-1], "weights") <= 1e-4


@pytest.mark.slow
def test_every_way_to_compute_a_run_is_the_same_run(bench: Bench, tmp_path: Path) -> None:
    runs = {name: train(bench, tmp_path, name, **settings) for name, settings in PLAIN.items()}
    for run in runs.values():
        compare(runs["8x1"], run)

    batches = {name: curve(run, "micro_batches") for name, run in runs.items()}
    assert (batches["8x1"] == 1).all()
    assert set(batches["one at a time"]) == {8, 1}, "the ragged end of an epoch has one sample"
    assert batches["cut into 3 or 4"].max() >= 3
    tokens = {name: curve(run, "tokens").sum() for name, run in runs.items()}
    assert tokens["shared"] < 0.9 * tokens["not shared"]
    assert len(read_events(runs["evaluated at every step"], "evaluated")) == STEPS + 1
    assert [event["devices"] for event in read_events(runs["two ranks"], "started")] == [2]
    assert_same_bytes(runs["8x1"], train(bench, tmp_path, "again"))


@pytest.mark.slow
def test_dropout_masks_do_not_depend_on_cut_ranks_or_recomputation(
    bench: Bench, tmp_path: Path
) -> None:
    dropped = {"lora_dropout": 0.1, "share_prefixes": "false"}
    runs = {
        name: train(bench, tmp_path, name, **dropped, **settings)
        for name, settings in DROPOUT.items()
    }
    for run in runs.values():
        compare(runs["8x1"], run)

    plain = train(bench, tmp_path, "without", share_prefixes="false", max_steps=20, eval_steps=20)
    assert np.abs(curve(plain) - curve(runs["8x1"])[:20]).max() > 1e-3, "dropout does nothing"
    before = [read_events(run, "evaluated")[0]["metrics"] for run in (plain, runs["8x1"])]
    assert before[0] == before[1], "evaluation is without dropout"
