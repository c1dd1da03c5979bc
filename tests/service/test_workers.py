"""Helpers and chat: processes of their own, bounded, and gone when they should be."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from luthier.errors import (
    BadRowsError,
    ChatBusyError,
    HelperError,
    ModelNotFoundError,
    SettingsError,
)
from luthier.runs import device_lease
from luthier.runs.place import make_way
from luthier.service.chat_processes import ChatProcesses
from luthier.service.helper_processes import Helpers
from luthier.units import GIB
from luthier.worker.chat_process import ChatWorker
from luthier.worker.lines import Lines

ASK = {"model": "starter", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    good = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}
    bad = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}]}
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad, good)))
    return path


def test_a_helper_shows_rows_good_and_bad(rows: Path) -> None:
    settings = {"model": "starter", "dataset": [str(rows)]}
    shown = Helpers().call("preview", {"settings": settings, "first": 1, "count": 3})
    assert shown["total"] == 3
    first, second, third = shown["rows"]
    assert "empty" in (second.get("bad") or second["dropped"])
    assert first["learned"][0] > 0
    assert third["line"] == 3
    text = "".join(piece["text"] for piece in first["sequences"][0])
    assert "Yo" in text


def test_a_helper_renders_a_prompt() -> None:
    shown = Helpers().call("render", {"model": "starter", "messages": ASK["messages"]})
    assert "Hello" in shown["text"]
    assert shown["tokens"] == len(shown["pieces"])


def test_errors_of_a_helper_keep_their_class() -> None:
    with pytest.raises(ModelNotFoundError):
        Helpers().call("describe_model", {"model": "no-such-model"})


def test_a_helper_that_takes_too_long_is_stopped_with_its_children(rows: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(HelperError, match="stopped after"):
        Helpers().call("render", {"model": "starter", "messages": []}, timeout_s=0.05)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_helper_is_bounded_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    row = json.dumps({"messages": [{"role": "user", "content": "x" * 8000}, {"role": "assistant", "content": "y"}]})  # fmt: skip
    path.write_text((row + "\n") * 30_000)
    settings = {"model": "starter", "dataset": [str(path)]}
    with pytest.raises(HelperError, match="memory"):
        Helpers(memory_bytes=GIB // 3).call("preview", {"settings": settings, "count": 1})


@pytest.fixture
def chats(tmp_path: Path) -> Iterator[ChatProcesses]:
    made = ChatProcesses("cpu", tmp_path / "chat.log", idle_s=300)
    yield made
    made.close()


def test_chat_answers_streams_and_gives_the_device_back(chats: ChatProcesses) -> None:
    events = list(chats.complete(ASK))
    assert events[0] == {"type": "loading", "model": "starter"}
    assert events[-1]["type"] == "usage"
    assert "".join(e["text"] for e in events if e["type"] == "delta")
    again = list(chats.complete(ASK))
    assert again[0]["type"] == "delta"  # nothing was loaded twice
    assert [e.get("text") for e in again[:-1]] == [e.get("text") for e in events[1:-1]]

    with pytest.raises(SettingsError, match="temperature"):
        list(chats.complete({**ASK, "temperature": 9}))

    plain = {"model": "starter", "max_tokens": 4}
    ids = list(chats.complete({**plain, "prompt": [1, 2, 3]}))
    assert ids[-1]["prompt_tokens"] == 3
    with pytest.raises(SettingsError, match="token 99999999"):
        list(chats.complete({**plain, "prompt": [99999999]}))

    stream = chats.complete({**ASK, "max_tokens": 400, "temperature": 1.0})
    next(stream)
    stream.close()
    assert chats.holds_device
    stream = chats.complete({**ASK, "max_tokens": 60, "temperature": 1.0})
    next(stream)
    assert not chats.release()  # an answer is being written
    with pytest.raises(ChatBusyError, match="a job waits"):
        list(chats.complete(ASK))
    gave: list[bool] = []  # a training of the command line asks by a signal, and waits
    asking = threading.Thread(target=lambda: gave.append(make_way("cpu")), daemon=True)
    asking.start()
    assert list(stream)[-1]["type"] == "usage"  # the answer is written to its end
    asking.join(20)
    assert gave == [True]
    assert chats.release()
    assert not chats.holds_device
    with device_lease("cpu", what="a training of starter"):
        assert list(chats.complete({**ASK, "device": "cpu"}))[-1]["type"] == "usage"
        with pytest.raises(ChatBusyError, match="device cpu is in use by a training of starter"):
            list(chats.complete(ASK))


def test_an_idle_chat_ends_by_itself(tmp_path: Path) -> None:
    chats = ChatProcesses("cpu", tmp_path / "chat.log", idle_s=0.3)
    try:
        list(chats.complete(ASK))
        deadline = time.monotonic() + 10
        while chats.holds_device and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not chats.holds_device
    finally:
        chats.close()


class Silent(Lines):
    """A server that asks nothing; this process keeps its standard output."""

    def __init__(self) -> None:
        self.never = threading.Event()

    def read(self) -> Iterator[dict[str, Any]]:
        self.never.wait(20)
        yield from ()


def test_an_idle_chat_hears_that_its_device_is_wanted() -> None:
    """By SIGUSR1, which here is sent to this very process while the worker waits for a request."""
    worker = ChatWorker(Silent())
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        timer.start()
        worker.serve()  # returns
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_a_helper_checks_and_advises(rows: Path) -> None:
    helpers = Helpers()
    report = helpers.call("check", {"files": [str(rows)], "model": None, "objective": None})
    assert report["rows"] == 3
    assert any("empty" in finding["code"] for finding in report["findings"])
    sound = rows.with_name("sound.jsonl")
    sound.write_text(rows.read_text().splitlines(keepends=True)[0] * 3)
    asked = {"files": [str(sound)], "model": "starter", "lang": "id", "goal": None}
    advice = helpers.call("advise", asked)
    assert {"model", "dataset", "learning_rate"} <= set(advice["settings"])
    assert advice["reasons"]
    with pytest.raises(BadRowsError, match="1 of 3 train rows"):  # as training would
        helpers.call("advise", {**asked, "files": [str(rows)]})


def test_a_chat_that_is_being_started_does_not_hold_up_the_queue(tmp_path: Path) -> None:
    chats = ChatProcesses("cpu", tmp_path / "chat.log")
    answers: list[bool] = []
    with chats._lock:  # as while a process imports its libraries
        asking = threading.Thread(target=lambda: answers.append(chats.release()), daemon=True)
        asking.start()
        asking.join(5)
        assert answers == [False]
    assert chats.release()
    chats.close()
