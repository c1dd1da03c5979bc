"""What happens between two steps: when to log, evaluate, save and stop."""

import math
from pathlib import Path

import pytest
from tests.recipes.conftest import written
from tests.tiny import tiny_model_folder

from luthier import events
from luthier.config import read
from luthier.engine.best import Best
from luthier.engine.loop import LoopState, StepReport
from luthier.recipes.run.train import run
from luthier.recipes.run.watch import Rhythm, Watcher
from luthier.runs import EventLog


def report(number: int, loss: float = 1.0) -> StepReport:
    return StepReport(number, loss, 0.5, 1e-3, {"accuracy": 0.5}, 10.0, 100, 2, 0.1)


class Bench:
    """A watcher over made-up evaluations, on a real event log."""

    def __init__(
        self, folder: Path, losses: list[float], *, patience=None, last=10, **rhythm
    ) -> None:
        self.losses = iter(losses)
        self.saved: list[int] = []
        self.stop = False
        self.path = folder / "events.jsonl"
        times = {"logging": 1, "evaluating": 1, "saving": 4, **rhythm}
        self.watcher = Watcher(
            EventLog(self.path),
            Rhythm(**times, last=last),
            Best("loss", patience),
            LoopState(),
            evaluate=lambda: {"loss": next(self.losses), "accuracy": 0.1},
            save=lambda step, _: self.saved.append(step),
            stop_requested=lambda: self.stop,
            unit="token",
        )

    def run(self, steps: int = 10) -> str | None:
        for number in range(1, steps + 1):
            if reason := self.watcher(report(number)):
                return reason
        return None

    def events(self, kind: str) -> list[dict]:
        return [event for event in events.read(self.path) if event["type"] == kind]


def test_the_best_is_saved_when_it_is_found_and_others_when_due(tmp_path):
    bench = Bench(tmp_path, [5, 4, 4.5, 4.6, 3, 6, 6, 6, 6, 6])
    assert bench.run() is None
    assert bench.saved == [1, 2, 4, 5, 8, 10]
    assert [e["step"] for e in bench.events("evaluated") if e["best"]] == [1, 2, 5]


def test_each_rhythm_of_the_settings_is_that_of_its_own_event(tmp_path):
    rows = [{"prompt": f"say {n}", "response": f"it is {n}"} for n in range(6)]
    data = written(tmp_path / "rows.jsonl", rows)
    given = {
        "model": str(tiny_model_folder(tmp_path / "base")), "dataset": data, "eval_dataset": data,
        "max_steps": 6, "logging_steps": 5, "eval_steps": 3, "save_steps": 2, "save_total_limit": 9,
        "torch_dtype": "float32", "output_dir": str(tmp_path / "run"), "early_stopping_patience": 9,
    }  # fmt: skip
    ended = run(read.load(given))
    told = list(events.read(ended.path / "events.jsonl"))
    steps = {kind: {e["step"] for e in told if e["type"] == kind} for kind in ("step", "evaluated")}
    assert steps == {"step": {5, 6}, "evaluated": {0, 3, 6}}
    saved = {e["step"] for e in told if e["type"] == "checkpoint"}
    assert {2, 4, 6} <= saved <= {2, 3, 4, 6}, "every second step, and where the best was found"


def test_patience_ends_the_run_with_a_checkpoint_of_that_step(tmp_path):
    bench = Bench(tmp_path, [5, 4, 4.5, 4.6, 3, 6], patience=2)
    assert bench.run() == "early_stopping"
    assert bench.saved[-1] == 4
    assert bench.watcher.best.step == 2


def test_a_stop_saves_and_does_not_evaluate_first(tmp_path):
    bench = Bench(tmp_path, [])
    bench.stop = True
    assert bench.run() == "interrupted"
    assert bench.saved == [1]


def test_a_step_is_saved_once_however_many_reasons_there_are(tmp_path):
    bench = Bench(tmp_path, [5, 4, 3, 2], last=4)
    bench.run(4)
    assert bench.saved == [1, 2, 3, 4]


def test_only_due_steps_are_logged_and_the_last_always(tmp_path):
    bench = Bench(tmp_path, [], logging=4, evaluating=None)
    bench.run()
    assert [event["step"] for event in bench.events("step")] == [4, 8, 10]
    assert bench.events("step")[0]["eta_s"] == pytest.approx(0.6)


def test_a_spike_is_a_warning_and_a_number_that_is_none_is_shown_as_it_is(tmp_path):
    bench = Bench(tmp_path, [], evaluating=None, last=20)
    for number in range(1, 13):
        bench.watcher(report(number))
    bench.watcher(report(13, loss=20.0))
    assert "20 times the running median" in bench.events("warning")[0]["text"]
    bench.watcher(report(14, loss=math.nan))
    last = bench.events("step")[-1]
    assert (last["loss"], last["loss_text"]) == (None, "nan")


def test_notes_of_the_loop_become_warnings(tmp_path):
    bench = Bench(tmp_path, [], evaluating=None)
    bench.watcher.state.notes.append("loss scale 8192")
    bench.watcher(report(1))
    assert bench.events("warning")[0]["text"] == "loss scale 8192"
    assert bench.watcher.state.notes == []


def test_where_every_evaluation_is_worse_than_the_start_that_is_said(tmp_path):
    bench = Bench(tmp_path, [2, 3, 2.5, 4], last=3)
    bench.watcher.run_evaluation(0)
    assert bench.run(3) is None
    found = [(e["best"], e["start_was_better"]) for e in bench.events("evaluated")]
    assert found == [(False, False), (True, True), (True, True), (False, False)]
    assert bench.watcher.no_gain == (
        "every evaluation was worse than the model before training: loss 2 then, 2.5 at best; "
        "the result is step 2 all the same"
    )
    (tmp_path / "better").mkdir()
    better = Bench(tmp_path / "better", [2, 1.5], last=1)
    better.watcher.run_evaluation(0)
    better.run(1)
    assert better.watcher.no_gain is None
