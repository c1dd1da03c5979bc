"""A disk that fills, numbers that are none, memory that runs out: nothing good is lost."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.invariants.conftest import Bench
from tests.invariants.runs import (
    assert_same_bytes,
    checkpoints,
    contents,
    curve,
    largest_difference,
    read_events,
    write_rows,
)
from tests.tiny import tiny_model_folder

from luthier.durable import verify_folder
from luthier.runs import RunDirectory

SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 6,
    "max_steps": 5,
    "save_steps": 2,
    "save_total_limit": 1,
    "eval_steps": 3,
    "learning_rate": 1e-3,
}
FULL = re.compile(r"error: disk full: (/\S+) needs [\d.,]+ \w+, [\d.,]+ \w+ is free \[E302\]")


def train(
    bench: Bench, run: Path, *words: str, status: int = 0, faults: Any = None, **settings: Any
) -> str:
    chosen = {**SETTINGS, "eval_dataset": bench.held_out, "output_dir": run, **settings}
    text = bench.server.run(*bench.words(**chosen), *words, status=status, **(faults or {}))
    return text[text.rindex("error: ") :] if status == 2 else text


def intact(run: Path) -> list[str]:
    """Names of the checkpoints, each verified byte by byte."""
    for folder in checkpoints(run):
        verify_folder(folder, kind="checkpoint")
    return [folder.name for folder in checkpoints(run)]


@pytest.mark.slow
def test_a_full_disk_at_any_moment_loses_nothing(bench: Bench, tmp_path: Path) -> None:
    untouched, report = tmp_path / "untouched", tmp_path / "report"
    small = {"lora_target_modules": "q_proj"}  # few tensors, few writes
    train(bench, untouched, faults={"report": str(report)}, **small)
    total, *marks = map(int, report.read_text().split())
    saves = list(zip(marks[::2], marks[1::2], strict=True))
    assert len(saves) == 4  # steps 2, 3 (the best), 4, 5
    one_save = range(saves[1][0], saves[1][1] + 3)  # the sync and the event behind it included
    assert len(one_save) > 20
    others = np.linspace(1, total, 10).astype(int).tolist()
    full: list[str] = []
    for place, k in enumerate([*one_save, *others]):
        run, mode = tmp_path / f"{k}-{place}", "forever" if place % 3 else "once"
        chosen = {**SETTINGS, **small, "eval_dataset": bench.held_out, "output_dir": run}
        child = bench.server.start(*bench.words(**chosen), fail_at=k, mode=mode)
        status, text = child.wait(), child.text()
        saved = intact(run)
        if status:  # an old checkpoint that cannot be removed once ends no run
            assert status == 2, text
            said = FULL.search(text)
            assert said, text
            full.append(said[1])
        if (run / "result").exists():  # it may be the very last event that does not fit
            verify_folder(run / "result")
        if k in one_save:
            assert saved, "the checkpoint before is there"
        if place % 6 == 0:
            train(bench, run, "--resume", **small)
            assert_same_bytes(untouched, run)
    assert sum("/checkpoints/step-000003" in path for path in full) > 15


@pytest.mark.parametrize(("kind", "micro"), [("nan", 1), ("nan", 3), ("nan gradient", 1)])
def test_a_step_that_gives_no_number_leaves_the_weights_of_the_step_before(
    bench: Bench, tmp_path: Path, kind: str, micro: int
) -> None:
    """In the first or another micro-batch of the fourth step."""
    cut = {"micro_batch_tokens": 8, "save_steps": 100, "save_total_limit": 9, "eval_steps": 100}
    untouched, run = tmp_path / "untouched", tmp_path / "run"
    train(bench, untouched, **{**cut, "save_steps": 1})
    faults = {"objective": kind, "at": [3 * 6 + micro]}
    text = train(bench, run, status=2, faults=faults, **cut)
    said = "loss nan" if kind == "nan" else "gradient norm nan"
    assert f"step 4: {said}" in text or said in text
    assert "rows.jsonl line" in text
    assert "step-000003 has the weights before it" in text
    assert intact(run) == ["step-000003"]
    ours, theirs = contents(checkpoints(run)[-1]), contents(checkpoints(untouched)[2])
    assert ours["weights.safetensors"] == theirs["weights.safetensors"]
    assert ours["optimizer.safetensors"] == theirs["optimizer.safetensors"]
    assert not (run / "result").exists()
    failed = read_events(run, "failed")[-1]
    assert failed["code"] == "E504"
    assert RunDirectory.open(run).status().state == "failed"
    train(bench, run, "--resume", **cut)  # the fault is gone: nothing was lost
    assert_same_bytes(untouched, run)


def test_a_held_out_loss_that_is_no_number_ends_the_run(bench: Bench, tmp_path: Path) -> None:
    text = train(bench, tmp_path / "a", status=2, faults={"evaluation": "nan", "at": [1]})
    assert "step 0: the held-out loss is nan" in text
    assert "this is the base model" in text
    cut = {"micro_batch_tokens": 4096}
    text = train(bench, tmp_path / "b", status=2, faults={"evaluation": "nan", "at": [2]}, **cut)
    assert "step 3: the held-out loss is nan" in text
    assert intact(tmp_path / "b") == ["step-000002"]


PLACES: dict[str, dict[str, Any]] = {
    "forward": {"objective": "forward", "at": [3]},
    "backward": {"objective": "backward", "at": [3]},
    "the optimiser": {"optimiser": True, "at": [3]},
    "the evaluation": {"evaluation": "forward", "at": [2]},
    "twice": {"objective": "backward", "at": [3, 4]},
}


@pytest.mark.parametrize("place", PLACES)
def test_memory_that_runs_out_changes_no_update(bench: Bench, tmp_path: Path, place: str) -> None:
    untouched, run = tmp_path / "untouched", tmp_path / "run"
    train(bench, untouched, lora_dropout=0.1)
    train(bench, run, lora_dropout=0.1, faults=PLACES[place])
    assert np.abs(curve(run) - curve(untouched)).max() <= 1e-5
    assert largest_difference(run / "result", untouched / "result") <= 1e-5
    said = [event["text"] for event in read_events(run, "warning") if "memory" in event["text"]]
    if place == "the optimiser":
        assert_same_bytes(untouched, run)  # there was nothing to cut finer
    else:
        assert len(said) == len(PLACES[place]["at"])
        where = "in an evaluation" if place == "the evaluation" else "at step 3"
        assert all(f"memory ran out {where}: from now on" in text for text in said)
    if place == "twice":
        assert (curve(run, "micro_batches")[2:] >= 3).all()


def test_one_sample_that_does_not_fit_ends_the_run_with_remedies(
    bench: Bench, tmp_path: Path
) -> None:
    faults = {"objective": "forward", "at": list(range(1, 100))}
    text = train(bench, tmp_path / "run", status=2, faults=faults)
    assert "[E301]" in text
    assert "one sample of" in text
    assert "--gradient_checkpointing full" in text


@pytest.mark.slow
def test_memory_that_really_runs_out_changes_no_update(bench: Bench, tmp_path: Path) -> None:
    """Under a limit of the address space of the process, which no allocator gets around."""
    settings = {
        "model": tiny_model_folder(tmp_path / "wide", hidden_size=64, intermediate_size=2048),
        "dataset": write_rows(tmp_path / "long.jsonl", 96, longest=30),
        "per_device_train_batch_size": 96,
        "micro_batch_tokens": 100_000,
        "share_prefixes": "false",
        "max_steps": 1,
        "eval_steps": 10,
    }
    untouched, run = tmp_path / "untouched", tmp_path / "run"
    train(bench, untouched, **settings)
    assert curve(untouched, "micro_batches") == [1]
    train(bench, run, **settings, faults={"address_space_bytes": 400 * 2**20})
    said = [event["text"] for event in read_events(run, "warning")]
    assert any("memory ran out at step 1" in text for text in said)
    assert curve(run, "micro_batches") > 1
    assert abs(curve(run) - curve(untouched)) <= 1e-5
    norms = curve(run, "grad_norm"), curve(untouched, "grad_norm")
    assert abs(norms[0] - norms[1]) <= 1e-4 * norms[1]
