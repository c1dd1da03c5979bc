"""Runs of the command line beside the jobs, and chat beside a run that has the device."""

import json

import pytest

from luthier.config.read import load
from luthier.runs import RunDirectory, device_lease
from luthier.service.http.openai.job_events import run_event

from .conftest import client_of


@pytest.fixture
def shared_home(start, luthier_home):
    with client_of(start(home=luthier_home)) as client:
        yield client


def test_a_run_of_the_command_line_shows_up(shared_home, tmp_path):
    run = RunDirectory.create(tmp_path / "mine")
    run.settings_file.write_text(load({"model": "starter", "dataset": "rows.jsonl"}).to_json())
    lines = [
        {"type": "started", "time": 5.0},
        {"type": "step", "step": 1, "loss": 2.0, "time": 6.0},
        {"type": "finished", "step": 1, "reason": "done", "time": 7.0},
    ]
    run.events_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (shown,) = shared_home.get("/api/jobs").json()["jobs"]
    assert (shown["name"], shown["state"], shown["base"]) == ("mine", "finished", "starter")
    assert shown["managed"] is False
    path = f"/api/jobs/{shown['id']}"
    assert shared_home.get(path).json()["progress"]["step"] == 1
    assert shared_home.get(f"{path}/metrics").json()["series"]["loss"] == [2.0]
    assert shared_home.get(f"{path}/logs").json()["text"] == ""
    assert shared_home.get(f"{path}/stream").text.startswith("event: state")
    for answer in (shared_home.post(f"{path}/pause"), shared_home.delete(path)):
        assert answer.json()["error"]["code"] == "not_managed"
    assert run.path.is_dir()
    assert shared_home.get("/api/jobs?state=running").json()["jobs"] == []
    (same,) = shared_home.get("/api/jobs?state=finished").json()["jobs"]
    assert same["id"] == shown["id"]


def test_chat_says_who_has_the_device(shared_home):
    body = {"model": "starter", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    with device_lease("cpu"):
        for stream in (False, True):
            answer = shared_home.post("/v1/chat/completions", json={**body, "stream": stream})
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "5"
            assert answer.json()["error"]["code"] == "chat_busy"
            assert "device" in answer.json()["error"]["message"]


def test_events_of_a_run_say_sentences():
    events = [
        {
            "type": "started",
            "model": "starter",
            "objective": "sft",
            "method": "lora",
            "device": "CPU",
        },
        {"type": "data", "train": {"rows": {"read": 3, "used": 2, "dropped": 1}, "tokens": 9}},
        {"type": "planned", "steps": 3},
        {"type": "plan_checked", "measured_bytes": 2**30, "predicted_bytes": 2**29, "error": 0.5},
    ]
    assert [run_event(event, "ftevent-x")["message"] for event in events] == [
        "training starter on answers with LoRA on CPU",
        "data: 3 rows read, 2 used, 1 left out, 9 tokens",
        "plan: 3 steps",
        "memory: 1 GiB measured, 512 MiB predicted",
    ]
