"""A real run is told once what it has, goes on as if it had not been, and remembers it on resume."""

import hashlib
import json

import pytest
import torch
from tests.tiny import tiny_model_folder

import luthier
from luthier.advisor.health import judge
from luthier.events import read_events
from luthier.recipes.run import voice


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    here = tmp_path_factory.mktemp("voice")
    rows = [{"instruction": f"say {n}", "output": f"{n * 7919 % 1000} it is"} for n in range(24)]
    for name, part in (("train", rows[:16]), ("held", rows[16:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (here / f"{name}.jsonl").write_text(text)
    tiny_model_folder(here / "base", tie=True)
    return here


def overfitted(data, folder, **settings):
    given = {
        "model": str(data / "base"),
        "dataset": str(data / "train.jsonl"),
        "eval_dataset": str(data / "held.jsonl"),
        "output_dir": str(folder),
        "method": "full",
        "torch_dtype": "float32",
        "learning_rate": 0.02,
        "lr_scheduler_type": "constant",
        "num_train_epochs": 30,
        "per_device_train_batch_size": 8,
        "save_steps": 10,
        **settings,
    }
    return luthier.train(**given)


def digest(run):
    return hashlib.sha256((run.result / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def run(data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield overfitted(data, data / "run")
    torch.set_num_threads(threads)


def said(run):
    return [event for event in run.events() if event.get("code")]


def test_a_run_that_learns_by_heart_is_told_so_once_with_numbers_and_what_to_do(run):
    codes = [event["code"] for event in said(run)]
    assert "overfitting" in codes
    assert "too_little_data" in codes
    assert len(codes) == len(set(codes))
    found = next(event for event in said(run) if event["code"] == "overfitting")
    assert found["type"] == "warning"
    assert found["params"]["last"] > found["params"]["best"]
    assert "early_stopping_patience" in found["action"]
    assert found["action"] in found["text"]


def test_the_same_is_said_after_the_run(run):
    assert "overfitting" in [one.code for one in run.judgements()]
    assert run.judgements() == judge(read_events(run.path / "events.jsonl"))


def test_the_weights_are_the_same_without_it(run, data, monkeypatch):
    monkeypatch.setattr(voice, "judge_seen", lambda seen: [])
    silent = overfitted(data, data / "silent")
    assert said(silent) == []
    assert digest(silent) == digest(run)


def test_a_resumed_run_does_not_repeat_itself_and_ends_the_same(run, data):
    first = overfitted(data, data / "resumed", num_train_epochs=30, max_steps=40)
    before = [event["code"] for event in said(first)]
    assert "overfitting" in before
    again = overfitted(data, data / "resumed", resume=True, max_steps=60)
    codes = [event["code"] for event in said(again)]
    assert codes[: len(before)] == before
    assert len(codes) == len(set(codes))
