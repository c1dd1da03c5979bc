"""Runs that are killed at random instants and resumed end as if nobody had touched them."""

import json
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.invariants.conftest import Bench
from tests.invariants.runs import (
    assert_same_bytes,
    checkpoints,
    curve,
    read_events,
    weights,
)
from tests.invariants.warm import Child, Server

KILLS, MOST = 5, 20  # of each run
AT_LEAST = Counter({"after a step": 3, "inside a save": 1, "in a resume": 1})
COMMON = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 3,
    "num_train_epochs": 3,
    "save_steps": 2,
    "save_total_limit": 2,
    "eval_steps": 3,
    "learning_rate": 1e-3,
    "lora_dropout": 0.1,
    "micro_batch_tokens": 150,
}
RUNS: dict[str, dict[str, Any]] = {
    "lora": {},
    "8-bit": {"optim": "adamw_8bit", "lora_dim": 64},
    "experts": {},
    "full": {"method": "full", "torch_dtype": "bfloat16", "lora_dim": 0, "lora_dropout": 0},
    "dpo": {"objective": "dpo", "metric_for_best_model": "accuracy"},
}
STATE = {
    "8-bit": "torch.uint8",
    "full": "torch.int16",
}  # moments in 8 bits; the lower half of masters
SLOW = {"slow_saves_s": 0.003}
PATIENCE_S = 120


class Killer:
    """One run, killed and resumed until it has been killed often enough and has ended."""

    def __init__(self, server: Server, words: list[str], run: Path, *, duration_s: float) -> None:
        self.server, self.words, self.first_run, self.duration_s = server, words, run, duration_s
        self.draw = random.Random(0)
        self.run, self.again = run, 0
        self.counts: Counter[str] = Counter()

    def work(self) -> Path:
        """Kill, resume, end; returns the directory of the run that had the last kill."""
        aims = [self.after_a_step, self.inside_a_save, self.any_time]
        for attempt in range(MOST):
            missing = AT_LEAST - self.counts
            if self.counts["kills"] >= KILLS and not missing:
                break
            resumes = missing["in a resume"] and checkpoints(self.run)
            self.one(self.in_the_resume if resumes else aims[attempt % len(aims)])
        self.server.run(*self.words, "--output_dir", self.run, "--resume", **SLOW)
        return self.run

    def one(self, aim: Any) -> None:
        """One attempt with a blow; a run that ended before the blow is begun again from nothing."""
        events = self.run / "events.jsonl"
        self.seen = events.stat().st_size if events.exists() else 0
        had = bool(checkpoints(self.run))
        child = self.server.start(*self.words, "--output_dir", self.run, "--resume", **SLOW)
        aim(child)
        child.kill(signal.SIGKILL)
        status = child.wait()
        if status != -signal.SIGKILL:
            assert status == 0, child.text()
            self.again += 1
            self.run = self.first_run.with_name(f"{self.first_run.name} {self.again}")
            return
        said = self.new_events()
        self.counts["kills"] += 1
        self.counts["after a step"] += "step" in said
        self.counts["inside a save"] += bool(self.unfinished())
        self.counts["in a resume"] += had and "resumed" not in said

    def new_events(self) -> list[str]:
        """Types of the events of this attempt."""
        events = self.run / "events.jsonl"
        if not events.exists():
            return []
        lines = events.read_bytes()[self.seen :].split(b"\n")
        return [json.loads(line)["type"] for line in lines if line.endswith(b"}")]

    def unfinished(self) -> list[Path]:
        """Checkpoints that were begun and have no final name yet."""
        return list((self.run / "checkpoints").glob(".step-*.luthier-part"))

    def until(self, child: Child, condition: Any) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if child.ended() or time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def after_a_step(self, child: Child) -> None:
        """Somewhere behind the first five steps of this attempt."""
        steps = self.draw.randint(1, 5)
        if self.until(child, lambda: self.new_events().count("step") >= steps):
            time.sleep(self.draw.uniform(0, 0.03))

    def inside_a_save(self, child: Child) -> None:
        before = set(self.unfinished())  # of the attempt before, until this one cleans up
        if self.until(child, lambda: set(self.unfinished()) - before):
            time.sleep(self.draw.uniform(0, 0.02))

    def any_time(self, child: Child) -> None:
        """Uniform over as long as the run takes when nobody touches it."""
        time.sleep(self.draw.uniform(0, self.duration_s))

    def in_the_resume(self, child: Child) -> None:
        """Between the first event of this attempt and the one that says where it goes on."""
        if self.until(child, lambda: "started" in self.new_events()):
            time.sleep(self.draw.uniform(0, 0.02))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_ends_like_one_nobody_touched(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    settings = {**COMMON, "eval_dataset": bench.held_out, **RUNS[name]}
    if name == "experts":
        settings["model"] = bench.experts
    if name == "dpo":
        settings |= {"dataset": bench.pairs, "eval_dataset": bench.held_pairs}
    words = bench.words(**settings)
    untouched = tmp_path / "untouched"
    started = time.monotonic()
    bench.server.run(*words, "--output_dir", untouched)
    duration_s = time.monotonic() - started
    assert len(curve(untouched)) == 21
    samples = [event["units"] for event in read_events(untouched, "step")]
    assert name != "dpo" or samples == [6, 6, 6, 6, 6, 6, 5] * 3, "the end of an epoch is ragged"
    kinds = {str(tensor.dtype) for tensor in weights(checkpoints(untouched)[-1]).values()}
    assert STATE.get(name, "torch.float32") in kinds
    killer = Killer(bench.server, words, tmp_path / "killed", duration_s=duration_s)
    killed = killer.work()
    with capsys.disabled():
        print(f"\n{name}: {dict(killer.counts)}")  # noqa: T201 - the counts are to be seen
    assert_same_bytes(untouched, killed)
    assert killer.counts["kills"] >= KILLS
    assert all(killer.counts[kind] >= least for kind, least in AT_LEAST.items())
