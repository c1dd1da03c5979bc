"""Processes that luthier starts: from where they import, what they see, how they are bounded, when they end."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from luthier import children
from luthier.children import Bounds
from luthier.locks import Owner
from luthier.units import MIB

PLANTED = (
    "numpy", "torch", "json", "resource", "runpy", "ctypes", "psutil", "sitecustomize", "usercustomize",
    "luthier", "transformers", "tokenizers", "yaml", "jinja2", "typing", "rich", "typer", "uvicorn",
)  # fmt: skip
DIES_HARD = """
    import re, signal, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up", flush=True)
    re.match("(a+)+$", "a" * 60 + "!")  # for ever, and no other Python code gets to run
"""


@pytest.fixture(autouse=True)
def home_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path / "home"))


@pytest.fixture
def seen(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment in which the child finds a module of that text, called `probe`."""

    def make(text: str) -> dict[str, str]:
        folder = tmp_path / "modules"
        folder.mkdir(exist_ok=True)
        (folder / "probe.py").write_text(textwrap.dedent(text))
        return children.serving_environment() | {"PYTHONPATH": str(folder)}

    return make


def plant(folder: Path) -> Path:
    """Modules that leave their name in a file when they are imported; returns the file."""
    traces = folder.parent / "imported"
    for name in PLANTED:
        text = f"open({str(traces)!r}, 'a').write({name + ' '!r})\nraise ImportError('planted')\n"
        (folder / f"{name}.py").write_text(text)
    return traces


def is_gone(pid: int, *, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while Owner.of(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    return Owner.of(pid) is None


def test_nothing_is_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Callable[[str], dict[str, str]]
) -> None:
    here = tmp_path / "cloned"
    here.mkdir()
    traces = plant(here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "../cloned", "sub"]))
    code = """
        import json, os, subprocess, sys
        import resource, numpy
        inner = subprocess.run([sys.executable, "-c", "import sys, json; print(sys.path)"],
                               capture_output=True, text=True, cwd=sys.argv[1])
        print(json.dumps([os.getcwd(), sys.path, inner.stdout]))
    """
    own = seen(code)
    kept = children.serving_environment()["PYTHONPATH"]
    assert kept == str(here / "sub")
    own["PYTHONPATH"] += os.pathsep + kept
    done = children.run("probe", str(here), environment=own, timeout_s=60)
    assert done.status == 0, done.err
    folder, path, inner = json.loads(done.out)
    assert not traces.exists()
    assert folder == str(tmp_path / "home" / "cache" / "empty")
    assert "" not in path
    assert str(here) not in [*path, inner]


def test_a_search_path_never_leads_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert children.search_path(":/usr/bin::.:tools:./") == f"/usr/bin:{tmp_path / 'tools'}"
    assert children.search_path(str(tmp_path)) == str(tmp_path)  # somebody said so, in full
    assert children.search_path(":") == ""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho planted\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f":.:{os.environ['PATH']}")
    assert children.find_program("nvidia-smi") != str(tmp_path / "nvidia-smi")
    assert "planted" not in (children.ask_program("nvidia-smi", timeout_s=20) or "")


def test_secrets_stay_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "LUTHIER_TOKEN",
        "HF_TOKEN",
        "WANDB_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "PYTHONHOME",
    ):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in children.serving_environment().values()
    training = children.training_environment()
    assert {name for name, value in training.items() if value == "secret"} == {
        "HF_TOKEN",
        "WANDB_API_KEY",
    }
    assert "LUTHIER_TOKEN" not in children.whole_environment()


def test_memory_and_processor_time_are_bounded(seen: Callable[[str], dict[str, str]]) -> None:
    takes = seen("import sys; x = bytearray(int(sys.argv[1]))")
    bounds = Bounds(memory_bytes=256 * MIB)
    assert children.run("probe", "1000", environment=takes, bounds=bounds, timeout_s=30).status == 0
    done = children.run("probe", str(300 * MIB), environment=takes, bounds=bounds, timeout_s=30)
    assert "MemoryError" in done.err
    spins = seen("while True: pass")
    done = children.run("probe", environment=spins, bounds=Bounds(cpu_s=1), timeout_s=30)
    assert done.status == -signal.SIGXCPU


def test_one_that_takes_too_long_ends_with_what_it_started(
    tmp_path: Path, seen: Callable[[str], dict[str, str]]
) -> None:
    note = tmp_path / "pid"
    starts = seen(f"""
        import pathlib, subprocess, sys
        inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        pathlib.Path({str(note)!r}).write_text(str(inner.pid))
        inner.wait()
    """)
    with pytest.raises(children.TooLateError):
        children.run("probe", environment=starts, timeout_s=1.5)
    assert is_gone(int(note.read_text()))


PARENT = """
    import json, os, sys, threading
    from luthier import children
    started = []
    def begin(outlives):
        seen = children.serving_environment() | {"PYTHONPATH": sys.argv[1]}
        child = children.start("probe", environment=seen, outlives=outlives, stdout=children.PIPE)
        child.stdout.readline()
        started.append(child)
    for outlives in (False, True):  # from threads that end, as those of a server do
        thread = threading.Thread(target=begin, args=(outlives,))
        thread.start()
        thread.join()
    print(json.dumps([child.pid for child in started]), flush=True)
    input()
    print(json.dumps([child.poll() for child in started]), flush=True)
    input()
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a thread watches, which needs its turn"
)
def test_a_child_ends_with_its_killed_parent_and_not_with_the_thread_that_started_it(
    tmp_path: Path, seen: Callable[[str], dict[str, str]]
) -> None:
    seen(DIES_HARD)
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path / "modules")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    serving, outliving = json.loads(parent.stdout.readline())
    try:
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert json.loads(parent.stdout.readline()) == [None, None]
        parent.kill()
        parent.wait()
        assert is_gone(serving)
        assert Owner.of(outliving) is not None
    finally:
        for pid in (serving, outliving):
            if Owner.of(pid) is not None:
                os.kill(pid, signal.SIGKILL)
        parent.stdin.close()
        parent.stdout.close()


def test_a_child_whose_parent_is_no_more_is_known_as_a_stray(
    seen: Callable[[str], dict[str, str]],
) -> None:
    sleeps = seen("import time; print('up', flush=True); time.sleep(60)")
    dead = {children.MARK: "4194304:1:no-such-boot"}
    stray = children.start("probe", environment=sleeps | dead, outlives=True, stdout=children.PIPE)
    mine = children.start("probe", environment=sleeps, stdout=children.PIPE)
    try:
        for child in (stray, mine):
            assert child.stdout is not None
            child.stdout.readline()
        found = {process.pid for process in children.strays()}
        assert stray.pid in found
        assert mine.pid not in found
        assert psutil.Process(mine.pid).environ()[children.MARK].startswith(f"{os.getpid()}:")
    finally:
        children.end(stray)
        children.end(mine)
