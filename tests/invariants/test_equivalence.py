"""However a step is cut, shared, recomputed or spread, the run through the command line is the same."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.invariants.runs import (
    assert_same_bytes,
    checkpoints,
    curve,
    flags,
    largest_difference,
    read_events,
    write_rows,
)
from tests.invariants.warm import Server, servers
from tests.tiny import tiny_model_folder

STEPS = 100
BATCH = {"per_device_train_batch_size": 8}
DROPOUT = {"lora_dropout": 0.1, "share_prefixes": "false"}
VARIANTS: dict[str, dict[str, Any]] = {
    "8x1": {},
    "4x2": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    "1x8": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
    "cut into 3 or 4": {"micro_batch_tokens": 120},
    "one at a time": {"micro_batch_tokens": 8},
    "shared": {"share_prefixes": "true"},
    "not shared": {"share_prefixes": "false"},
    "recomputed": {"gradient_checkpointing": "full"},
    "evaluated at every step": {"eval_steps": 1},
    "two ranks": {"devices": 2, "per_device_train_batch_size": 4},
    "again": {},
    "dropout": DROPOUT,
    "dropout, one at a time": {**DROPOUT, "micro_batch_tokens": 8},
    "dropout, recomputed": {**DROPOUT, "gradient_checkpointing": "full"},
    "dropout, two ranks": {**DROPOUT, "devices": 2, "per_device_train_batch_size": 4},
}
LAUNCHED = ("two ranks", "dropout, two ranks", "again")  # as real commands of their own
COMPARED = [name for name in VARIANTS if name not in ("8x1", "again", "dropout")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run directory of each variant, all of them trained."""
    work = tmp_path_factory.mktemp("equivalence")
    model = tiny_model_folder(work / "model", hidden_size=64, intermediate_size=96, spread=0.1)
    common = {
        "model": model,
        "dataset": write_rows(work / "rows.jsonl", 43),
        "eval_dataset": write_rows(work / "held_out.jsonl", 5, seed=1),
        "eval_steps": STEPS,
        "torch_dtype": "float32",
        "learning_rate": 1e-3,
        "max_steps": STEPS,
        "lora_dim": 8,
        "save_total_limit": 1,
        **BATCH,
    }

    def words(name: str) -> list[str]:
        settings = {**common, **VARIANTS[name], "output_dir": work / name}
        return ["train", *flags(settings)]

    def launched(name: str) -> None:
        command = [sys.executable, "-m", "luthier.cli.main", *words(name)]
        environment = {**os.environ, "LUTHIER_HOME": str(work / "home"), "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    def here(server: Server) -> None:
        while names:
            server.run(*words(names.pop(0)))

    names = [name for name in VARIANTS if name not in LAUNCHED]
    with ThreadPoolExecutor() as pool, servers(work / "servers", 2) as warm:
        work_done = [pool.submit(here, server) for server in warm]
        for done in work_done:
            done.result()
        for name in LAUNCHED:  # one at a time: two ranks have two processes
            launched(name)
    return lambda name: work / name


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPARED)
def test_the_same_run_another_way(finished: Callable[[str], Path], name: str) -> None:
    base, other = finished("dropout" if name.startswith("dropout") else "8x1"), finished(name)
    losses, others = curve(base), curve(other)
    assert len(losses) == len(others) == STEPS
    assert losses[-10:].mean() < losses[:10].mean() - 0.5, "the run learns nothing"
    assert np.abs(losses - others).max() <= 1e-5
    assert abs((losses - others).mean()) <= 1e-6
    norms, other_norms = curve(base, "grad_norm"), curve(other, "grad_norm")
    assert (np.abs(norms - other_norms) / norms).max() <= 1e-4
    assert checkpoints(base)[-1].name == checkpoints(other)[-1].name == f"step-{STEPS:06d}"
    assert largest_difference(base / "result", other / "result") <= 1e-4
    assert (curve(base, "units") == curve(other, "units")).all()


@pytest.mark.slow
def test_the_variants_are_what_they_say(finished: Callable[[str], Path]) -> None:
    cuts = {name: curve(finished(name), "micro_batches") for name in COMPARED}
    assert (curve(finished("8x1"), "micro_batches") == 1).all()
    assert (cuts["one at a time"] == 3).any(), "the ragged end of an epoch has three samples"
    assert (cuts["one at a time"] == 8).any()
    assert cuts["cut into 3 or 4"].max() >= 3
    tokens = {name: curve(finished(name), "tokens").sum() for name in COMPARED}
    assert tokens["shared"] < 0.9 * tokens["not shared"]
    assert len(read_events(finished("evaluated at every step"), "evaluated")) == STEPS + 1
    started = read_events(finished("two ranks"), "started")
    assert [event["devices"] for event in started] == [2]


@pytest.mark.slow
def test_a_repeated_run_is_equal_to_the_byte(finished: Callable[[str], Path]) -> None:
    assert_same_bytes(finished("8x1"), finished("again"))


@pytest.mark.slow
def test_dropout_is_on_in_training_and_off_in_evaluation(
    finished: Callable[[str], Path],
) -> None:
    plain, dropped = finished("not shared"), finished("dropout")
    assert np.abs(curve(plain) - curve(dropped)).max() > 1e-3
    before = [read_events(run, "evaluated")[0]["metrics"]["loss"] for run in (plain, dropped)]
    assert before[0] == before[1]
