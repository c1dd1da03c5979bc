"""Commands and the service, in a folder of somebody else: nothing in it is run, nothing stays behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from tests.children.test_children import plant

from luthier import children

pytestmark = pytest.mark.slow

SOURCE = Path(children.__file__).parent
LUTHIER = Path(sys.executable).with_name("luthier")
ROW = '{"messages":[{"role":"user","content":"A cat?"},{"role":"assistant","content":"aisle 4"}]}\n'
TOKEN = "test-token-of-at-least-16"
ENDS_S = 5.0


class Folder:
    """A cloned model repository with modules that leave a trace, to stand in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copytree(SOURCE / "starter", path, ignore=shutil.ignore_patterns("data"))
        (path / "rows.jsonl").write_text(ROW * 8)
        self.traces = plant(path)
        self.environment = {
            **os.environ,
            "LUTHIER_HOME": str(path.parent / "home"),
            "LUTHIER_TOKEN": TOKEN,
        }
        self.environment.pop("PYTHONPATH", None)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(LUTHIER), *words],
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> str:
        with self.start(*words) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert not self.traces.exists(), self.traces.read_text()
        return out


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "cloned")


def family_of(pid: int) -> set[int]:
    """Children of a process, and what bears its mark."""
    bearing = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(children.MARK, "").startswith(f"{pid}:"):
                bearing.add(process.pid)
        except psutil.Error:
            continue
    return bearing


def test_an_exact_plan_runs_nothing_of_the_current_folder(folder: Folder) -> None:
    assert "exact" in folder.run("plan", "--exact", "--model", ".", "--dataset", "rows.jsonl")


def test_ranks_run_nothing_of_the_current_folder(folder: Folder) -> None:
    words = ("--model", ".", "--dataset", "rows.jsonl", "--devices", "2", "--max_steps", "1")
    folder.run("train", *words, "--output_dir", "run", "--seq_length", "64")
    assert (folder.path / "run" / "result").is_dir()


@pytest.mark.parametrize("killed", ["the command", "its launcher"])
def test_ranks_save_and_stop_when_what_started_them_is_killed(folder: Folder, killed: str) -> None:
    run = folder.path.parent / "run"
    words = ("--model", ".", "--dataset", "rows.jsonl", "--devices", "2", "--max_steps", "100000")
    events = run / "events.jsonl"
    process = folder.start("train", *words, "--output_dir", str(run), "--seq_length", "64")
    deadline = time.monotonic() + 120
    while not (events.exists() and '"step": 3,' in events.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3  # the launcher and two ranks
    (process if killed == "the command" else family[0]).kill()
    _, left = psutil.wait_procs(family, timeout=40)
    process.communicate()
    assert left == []
    last = json.loads(events.read_text().splitlines()[-1])
    assert (last["type"], last["reason"]) == ("finished", "interrupted")
    assert list((run / "checkpoints").iterdir())


@pytest.fixture
def server(folder: Folder) -> Iterator[tuple["subprocess.Popen[str]", httpx.Client]]:
    process = folder.start("serve", "--port", "0", "--no-browser")
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        yield process, client
    if process.poll() is None:
        process.kill()
    process.communicate()


def train(client: httpx.Client) -> dict[str, Any]:
    upload = {"file": ("rows.jsonl", ROW * 8)}
    file = client.post("/v1/files", data={"purpose": "fine-tune"}, files=upload).json()
    settings = {"max_steps": 2, "seq_length": 64, "lora_dim": 2, "per_device_train_batch_size": 2}
    body = {"model": "starter", "training_file": file["id"], "luthier": settings}
    made = client.post("/v1/fine_tuning/jobs", json=body).json()
    deadline = time.monotonic() + 120
    while made["status"] not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, made
        time.sleep(0.2)
        made = client.get(f"/v1/fine_tuning/jobs/{made['id']}").json()
    return dict(made)


def test_a_server_runs_nothing_of_its_folder_and_leaves_nobody_behind(
    folder: Folder, server: tuple["subprocess.Popen[str]", httpx.Client]
) -> None:
    process, client = server
    assert train(client)["status"] == "succeeded"
    hello = [{"role": "user", "content": "Hello"}]
    shown = client.post("/api/render", json={"model": "starter", "messages": hello})
    assert shown.status_code == 200
    body = {"model": "starter", "messages": hello, "stream": True, "max_tokens": 1500, "n": 8}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
        assert len(family_of(process.pid)) >= 2  # it chats, and keeps a warm process
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=20)
    assert time.monotonic() - started < ENDS_S
    assert family_of(process.pid) == set()
    assert status == 0
    assert not folder.traces.exists(), folder.traces.read_text()


def test_what_a_killed_server_was_doing_ends_and_the_next_one_can_chat(
    folder: Folder, server: tuple["subprocess.Popen[str]", httpx.Client]
) -> None:
    process, client = server
    hello = {"model": "starter", "messages": [{"role": "user", "content": "Hello"}]}
    body = {**hello, "stream": True, "max_tokens": 1500, "n": 8}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        next(answer.iter_lines())
        left = family_of(process.pid)
        assert left
        process.kill()
        process.wait()
    deadline = time.monotonic() + 5
    while family_of(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert family_of(process.pid) == set()
    again = folder.start("serve", "--port", "0", "--no-browser")
    try:
        assert again.stdout is not None
        address = again.stdout.readline().split()[-1]
        asked = {**hello, "max_tokens": 4}
        answered = httpx.post(
            f"{address}/v1/chat/completions",
            json=asked,
            headers={"authorization": f"Bearer {TOKEN}"},
            timeout=60,
        )
        assert answered.status_code == 200, answered.text
    finally:
        again.send_signal(signal.SIGINT)
        _, err = again.communicate(timeout=20)
    assert again.returncode == 0, err
    assert json.loads((folder.path.parent / "home" / "service" / "server.lock").read_text() or "{}") == {}  # fmt: skip
