"""What a resume takes over, what it refuses, and what damage and signals leave behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.invariants.conftest import Bench
from tests.invariants.runs import (
    assert_same_bytes,
    checkpoints,
    curve,
    log,
    read_events,
    weights,
    write_rows,
)
from tests.tiny import TEMPLATE, tiny_model_folder

from luthier import events
from luthier.durable import hash_file, publish_folder

SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 6,
    "max_steps": 6,
    "save_steps": 2,
    "save_total_limit": 3,
    "eval_steps": 2,
    "learning_rate": 1e-3,
    "lora_dropout": 0.1,
    "metric_for_best_model": "accuracy",
}


@pytest.fixture(scope="module")
def done(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps that nobody touched; not to be changed."""
    run = tmp_path_factory.mktemp("done") / "run"
    bench.server.run(*command(bench, run))
    assert [path.name[-1] for path in checkpoints(run)] == ["2", "4", "6"]
    return run


def command(bench: Bench, run: Path, **settings: Any) -> list[str]:
    chosen = {**SETTINGS, "eval_dataset": bench.held_out, **settings}
    return [*bench.words(**chosen), "--output_dir", str(run)]


def begun(done: Path, path: Path, *, last: int = 4) -> Path:
    """A copy of the finished run as if it had been killed behind checkpoint `last`."""
    shutil.copytree(done, path)
    shutil.rmtree(path / "result")
    for folder in checkpoints(path):
        if int(folder.name[-6:]) > last:
            shutil.rmtree(folder)
    return path


def last_error(text: str) -> str:
    return text[text.rindex("error: ") :]


def damage_every_file(folder: Path) -> list[tuple[str, str]]:
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) >= 4
    return [(name, kind) for name in names for kind in ("deleted", "truncated", "one bit")]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    bench: Bench, done: Path, tmp_path: Path
) -> None:
    for number, (name, kind) in enumerate(damage_every_file(checkpoints(done)[-1])):
        run = begun(done, tmp_path / str(number), last=6)
        victim = checkpoints(run)[-1] / name
        data = victim.read_bytes()
        if kind == "deleted":
            victim.unlink()
        elif kind == "truncated":
            victim.write_bytes(data[: len(data) // 2])
        else:
            place = (number * 7919) % len(data)
            victim.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        bench.server.run(*command(bench, run), "--resume")
        assert [event["from_step"] for event in read_events(run, "resumed")] == [4], (name, kind)
        said = [e["text"] for e in read_events(run, "warning") if "step-000006" in e["text"]]
        assert len(said) == 1, (name, kind)
        assert name in said[0]
        assert_same_bytes(done, run)


def test_when_every_checkpoint_is_damaged_nothing_is_started_over(
    bench: Bench, done: Path, tmp_path: Path
) -> None:
    run = begun(done, tmp_path / "run")
    for folder in checkpoints(run):
        (folder / "state.json").unlink()
    text = last_error(bench.server.run(*command(bench, run), "--resume", status=2))
    assert "has no intact checkpoint" in text
    assert "step-000002" in text
    assert "step-000004" in text


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "learning rate and rank": (
        {"learning_rate": 2e-3, "lora_dim": 4},
        ["setting learning_rate was 0.001, is 0.002", "setting lora_dim was 8, is 4"],
    ),
    "seed": ({"seed": 7}, ["setting seed was", "is 7"]),
    "samples per step": (
        {"per_device_train_batch_size": 3},
        ["samples per step was 6, is 3"],
    ),
    "fewer steps": ({"max_steps": 5}, ["steps of the run was 6, is 5"]),
    "template": (
        {"chat_template": TEMPLATE.replace("\n", " ")},
        ["; template was", "data was", "setting chat_template was None"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_is_refused_by_name_and_the_run_stays_as_it_was(
    bench: Bench, done: Path, tmp_path: Path, change: str
) -> None:
    settings, named = CHANGES[change]
    run = begun(done, tmp_path / "run")
    kept = {name: (run / name).read_bytes() for name in ("settings.json", "plan.json", "data.json")}
    text = last_error(bench.server.run(*command(bench, run, **settings), "--resume", status=2))
    assert "cannot be continued" in text
    assert [part for part in named if part not in text] == []
    assert kept == {name: (run / name).read_bytes() for name in kept}
    bench.server.run(*command(bench, run), "--resume")  # as it was: it goes on
    assert_same_bytes(done, run)


def test_changed_data_and_model_are_refused_by_name(
    bench: Bench, done: Path, tmp_path: Path
) -> None:
    run = begun(done, tmp_path / "run")
    other_rows = write_rows(tmp_path / "other.jsonl", 41, seed=9)
    other_model = tiny_model_folder(
        tmp_path / "other", hidden_size=64, intermediate_size=96, spread=0.1, seed=5
    )
    for name, value in (("dataset", other_rows), ("model", other_model)):
        said = last_error(
            bench.server.run(*command(bench, run, **{name: value}), "--resume", status=2)
        )
        assert {"dataset": "data was", "model": "base model was"}[name] in said
        assert {"dataset": "base model was", "model": "data was"}[name] not in said
    moved = tmp_path / "moved"
    shutil.copytree(bench.llama, moved)  # the same bytes elsewhere are the same model
    bench.server.run(*command(bench, run, model=moved), "--resume")
    assert log(run) == log(done)


def test_what_moves_no_weight_may_change(bench: Bench, done: Path, tmp_path: Path) -> None:
    run = begun(done, tmp_path / "run")
    changed = {"save_steps": 5, "save_total_limit": 9, "micro_batch_tokens": 4096}
    bench.server.run(*command(bench, run, **changed), "--resume")
    assert_same_bytes_of_weights(done, run)
    assert [path.name[-1] for path in checkpoints(run)] == ["2", "4", "5", "6"]


def assert_same_bytes_of_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one / "result"), weights(other / "result")
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)


def test_a_longer_run_goes_on_and_says_what_that_means(
    bench: Bench, done: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(done, run)
    bench.server.run(*command(bench, run, max_steps=8), "--resume")
    assert len(curve(run)) == 8
    assert (curve(run)[:6] == curve(done)).all()
    said = [event["text"] for event in read_events(run, "warning")]
    assert any("8 steps instead of 6" in text and "learning rate" in text for text in said)


def test_a_finished_run_is_finished_again(bench: Bench, done: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(done, run)
    bench.server.run(*command(bench, run), "--resume")
    assert_same_bytes(done, run)
    assert [event["reason"] for event in read_events(run, "finished")][-1] == "completed"


def test_a_resume_with_nothing_saved_begins_and_voids_what_was_done(
    bench: Bench, done: Path, tmp_path: Path
) -> None:
    run = begun(done, tmp_path / "run", last=0)
    bench.server.run(*command(bench, run), "--resume")
    assert [event["from_step"] for event in read_events(run, "resumed")] == [0]
    assert_same_bytes(done, run)
    new = tmp_path / "new"
    bench.server.run(*command(bench, new), "--resume")
    assert read_events(new, "resumed") == []
    assert_same_bytes(done, new)


def test_resume_takes_the_settings_of_the_run_itself(
    bench: Bench, done: Path, tmp_path: Path
) -> None:
    run = begun(done, tmp_path / "run")
    before = json.loads((run / "settings.json").read_text())
    bench.server.run("train", "--resume", "--output_dir", run)
    assert_same_bytes(done, run)
    after = json.loads((run / "settings.json").read_text())
    ours = {"resume", "output_dir"}
    for part in ("settings", "provenance"):
        changed = {name for name in after[part] if after[part][name] != before[part][name]}
        assert changed <= ours, part
    assert after["provenance"]["lora_alpha"].startswith("chosen")
    text = bench.server.run("train", "--resume", "--output_dir", run, "--seed", 5, status=2)
    assert "setting seed was" in last_error(text)


def test_what_was_chosen_is_kept_though_it_would_be_chosen_otherwise(
    bench: Bench, done: Path, tmp_path: Path
) -> None:
    run = begun(done, tmp_path / "run")
    saved = json.loads((run / "settings.json").read_text())
    assert saved["provenance"]["micro_batch_tokens"].startswith("chosen")
    saved["settings"]["micro_batch_tokens"] = 300
    (run / "settings.json").write_text(json.dumps(saved))
    bench.server.run(*command(bench, run), "--resume")
    assert json.loads((run / "settings.json").read_text())["settings"]["micro_batch_tokens"] == 300
    assert curve(run, "micro_batches")[4:].max() > curve(done, "micro_batches").max() == 1
    assert np.abs(curve(run) - curve(done)).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_saves_and_the_resume_is_the_same_run(
    bench: Bench, tmp_path: Path, number: int, code: int
) -> None:
    """Stops at many instants; evaluations that a stop left out are made up for."""
    settings = {"max_steps": 12, "eval_steps": 1, "save_steps": 100}
    untouched, run = tmp_path / "untouched", tmp_path / "run"
    bench.server.run(*command(bench, untouched, **settings))
    stops = 0
    for attempt in range(30):
        child = bench.server.start(*command(bench, run, **settings), "--resume")
        seen = len(read_events(run, "step")) if (run / "events.jsonl").exists() else 0
        while not child.ended() and count_lines(run, '"type": "step"') <= seen + attempt % 2:
            time.sleep(0.001)
        time.sleep(0.007 * (attempt % 5))
        child.kill(number)
        status = child.wait()
        if status == 0:
            break
        assert status == code, child.text()
        stops += 1
        last = read_events(run, "finished")[-1]
        assert last["reason"] == "interrupted"
        assert checkpoints(run)[-1].name == f"step-{last['step']:06d}"
    assert stops >= 3
    assert status == 0
    assert_same_bytes(untouched, run)


def count_lines(run: Path, part: str) -> int:
    path = run / "events.jsonl"
    return path.read_text("utf-8").count(part) if path.exists() else 0


@pytest.mark.slow
def test_a_stop_of_two_ranks_reaches_both_and_saves(bench: Bench, tmp_path: Path) -> None:
    """As from a terminal: the signal goes to the whole process group of the command."""
    settings = {"devices": 2, "per_device_train_batch_size": 3, "max_steps": 200, "eval_steps": 500}
    run = tmp_path / "run"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LUTHIER_HOME": str(tmp_path / "home")}
    words = command(bench, run, **settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "luthier.cli.main", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while count_lines(run, '"type": "step"') < 2 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 130, text
    last = read_events(run, "finished")[-1]
    assert checkpoints(run)[-1].name == f"step-{last['step']:06d}"
    alone = {**settings, "devices": 1, "per_device_train_batch_size": 6}
    alone["max_steps"] = last["step"] + 2
    # Goes on with one device: the same samples per step.  A shorter run is refused.
    text = bench.server.run(*command(bench, run, **alone), "--resume", status=2)
    assert f"steps of the run was 200, is {alone['max_steps']}" in last_error(text)


@pytest.mark.slow
def test_of_two_processes_on_one_folder_one_runs(bench: Bench, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = command(bench, run, max_steps=5000)
    first = bench.server.start(*words)
    while count_lines(run, '"type": "step"') < 2:
        assert not first.ended(), first.text()
        time.sleep(0.01)
    for resume, said in (([], "already holds a run: running in process"), (["--resume"], "in use")):
        second = subprocess.run(
            [sys.executable, "-m", "luthier.cli.main", *words, *resume],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert second.returncode == 2
        assert said in second.stderr
        assert f"process {first.pid}" in second.stderr
    first.kill(signal.SIGTERM)
    assert first.wait() == 143
    steps = curve(run)  # numbered without a gap or a double: one process wrote
    kinds = [event["type"] for event in events.read(run / "events.jsonl")]
    assert kinds.count("started") == kinds.count("finished") == 1
    assert len(steps) == read_events(run, "finished")[-1]["step"]


@pytest.mark.parametrize("damage", ["gone", "truncated"])
def test_a_lost_best_checkpoint_is_forgotten_and_the_run_goes_on(
    bench: Bench, done: Path, tmp_path: Path, damage: str
) -> None:
    run = begun(done, tmp_path / "run")
    first, last = checkpoints(run)
    state = json.loads((last / "state.json").read_text())
    state["best"] |= {"step": 2, "value": 0.9}  # as if step 2 were far the best
    rewrite(last, "state.json", json.dumps(state))
    if damage == "gone":
        shutil.rmtree(first)
    else:
        (first / "weights.safetensors").write_bytes(b"")
    bench.server.run(*command(bench, run), "--resume")
    said = [e["text"] for e in read_events(run, "warning") if "best checkpoint" in e["text"]]
    assert len(said) == 1
    assert "step 2 (accuracy 0.9), cannot be used" in said[0]
    (ended,) = read_events(run, "finished")[-1:]
    assert ended["reason"] == "completed"
    assert ended["summary"]["best_step"] in (4, 6)


def rewrite(folder: Path, name: str, text: str) -> None:
    """Change one file of a saved folder as its writer would have."""
    body = json.loads((folder / "manifest.json").read_text())
    (folder / name).unlink()
    content = {path.name: path for path in folder.iterdir() if path.name != "manifest.json"}
    staged = folder.with_name("staged")
    staged.mkdir()
    for other, path in content.items():
        path.rename(staged / other)
    (staged / name).write_text(text)
    shutil.rmtree(folder)
    hashes = {path.name: hash_file(path) for path in staged.iterdir()}
    publish_folder(staged, folder, kind=body["kind"], record=body["record"], hashes=hashes)
