"""Where a run may be, who works in it, and what it says about itself."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.faults import Killed, every_fault

from luthier import locks
from luthier.durable import using
from luthier.errors import (
    EnvironmentVariableError,
    LuthierError,
    RunBusyError,
    RunError,
    RunExistsError,
    RunNotFoundError,
    SettingsError,
)
from luthier.events import Finished, Notice, Planned, Step, parse
from luthier.runs import EventLog, RunDirectory, device_lease, directory, home, list_runs
from luthier.runs.place import slug


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begin(path="runs/one", **more):
    return RunDirectory.create(path, **more)


def test_a_run_without_a_name_gets_date_model_and_dataset_and_is_unique():
    parts = ["Qwen/Qwen3-8B", "/data/my rows.jsonl.gz"]
    first, second, third = (RunDirectory.create(None, name_parts=parts) for _ in range(3))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-Qwen3-8B-my-rows", first.name)
    assert second.name == f"{first.name}-2"
    assert third.name == f"{first.name}-3"
    assert first.path == Path("runs").resolve() / first.name
    assert list_runs() == [first, second, third]


@given(st.text(max_size=300))
def test_any_text_makes_a_plain_part_of_a_name(text):
    assert re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._-]{0,39})?", slug(text))


def test_an_empty_folder_and_a_new_one_become_a_run(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("empty", "a/b/c", tmp_path / "absolute", "a/b/../d"):
        run = begin(path)
        assert run.checkpoints.is_dir()
        assert run.info["created"] == pytest.approx(time.time(), abs=60)
    assert (tmp_path / "a" / "d" / "run.json").exists()


@pytest.mark.parametrize(
    ("output_dir", "says"),
    [
        ("/", "root of the file system"),
        ("/..", "root of the file system"),
        ("~", "home directory"),
        ("~nobody-of-that-name", "home"),
        ("a\nb", r"'\\n'"),
        ("a\0b", r"'\\x00'"),
        ("x\udcffy", "character"),
        ("", "empty"),
        ("  ", "empty"),
        ("x" * 4096, "4,096 bytes"),
        ("x" * 201, "201 bytes"),
        ("ü" * 150, "300 bytes"),
        ("x/" * 2000, "4,000 bytes"),
        ("a_file/run", "a_file is a file"),
        ("dangling", "does not exist|link to nothing|cannot hold"),
        ("loop", "."),
        ("data/out", "all of which is read as data"),
        ("data", "all of which is read as data"),
        ("old/result", "inside another run"),
        ("/proc/self/x", "."),
    ],
)
def test_a_place_that_can_hold_no_run_is_refused_with_the_reason(tmp_path, output_dir, says):
    (tmp_path / "a_file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to("/dev/null/nothing")
    (tmp_path / "data").mkdir()
    begin("old")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LuthierError, match=says) as caught:
        begin(output_dir, datasets=[tmp_path / "data"])
    assert isinstance(caught.value, SettingsError | RunError)
    assert caught.value.fix
    assert len(str(caught.value)) < 1000
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(SettingsError, match="may not be written to"):
        begin("locked/run")


def test_a_run_beside_a_data_file_is_allowed(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    begin("out", datasets=[tmp_path / "rows.jsonl"])


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("place", ["a_file", "full", ".", ".."])
def test_a_file_or_a_folder_with_something_else_is_never_touched(tmp_path, place, resume):
    (tmp_path / "a_file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(RunExistsError) as caught:
        begin(place, resume=resume)
    assert caught.value.fix.startswith("--output_dir ")
    assert not Path(caught.value.fix.split(maxsplit=1)[1]).exists()
    assert (tmp_path / "a_file").read_text() == "mine"
    assert os.listdir(tmp_path / "full") == ["thesis.tex"]


def test_an_existing_run_is_refused_with_its_state_and_resume_continues_it():
    run = begin()
    with EventLog(run) as log:
        log.emit(Planned(steps=200))
        log.emit(Step(step=17, loss=0.5))
        log.emit(Finished(step=17, reason="sigterm"))
    with pytest.raises(RunExistsError, match=r"cancelled at step 17 of 200 \(sigterm\)") as caught:
        begin()
    assert "--resume true" in caught.value.fix
    assert begin(resume=True) == run
    assert list_runs() == [run]


def test_resume_with_nothing_saved_begins():
    run = begin("new", resume=True)
    assert run.status().step == 0
    assert begin("new", resume=True) == run


def test_resume_without_a_directory_asks_which():
    run = begin()
    with pytest.raises(SettingsError, match="which run") as caught:
        RunDirectory.create(None, resume=True)
    assert str(run.path) in caught.value.fix


def test_a_run_is_found_by_path_and_by_name_and_similar_ones_are_named(tmp_path):
    run = begin("runs/tune-guanaco")
    far = begin(tmp_path / "far" / "away")
    for name in (run.path, str(run.path), "tune-guanaco", "runs/tune-guanaco"):
        assert RunDirectory.open(name) == run
    assert RunDirectory.open("away") == far
    with pytest.raises(RunNotFoundError, match="tune-guanaco") as caught:
        RunDirectory.open("tune-guanoco")
    assert "luthier runs list" in caught.value.fix
    for name in ("", "a\0b", "x" * 5000, "/", tmp_path):
        with pytest.raises(RunNotFoundError):
            RunDirectory.open(name)


def test_a_run_that_was_moved_or_deleted_is_not_listed(tmp_path):
    run = begin()
    run.path.rename(tmp_path / "moved")
    assert list_runs() == []
    moved = begin("moved", resume=True)
    assert list_runs() == [moved]


@pytest.mark.parametrize("junk", ["", "[]", "{}", "\xff", '{"format": 2, "created": 0}'])
def test_a_mark_that_is_junk_or_newer_is_refused(junk):
    run = begin()
    (run.path / "run.json").write_text(junk)
    with pytest.raises(RunError):
        begin(resume=True)
    with pytest.raises(RunError):
        RunDirectory.open(run.path)
    with pytest.raises(RunExistsError):
        begin()


def test_a_torn_line_in_the_registry_loses_nothing_else():
    first = begin("runs/a")
    with (home() / "runs.jsonl").open("a") as registry:
        registry.write('{"path": "/tmp/x')
    second = begin("runs/b")
    assert list_runs() == [first, second]


@pytest.mark.parametrize(
    ("junk", "says"),
    [
        ("a\nb", r"'\\n'"),
        ("relative/path", "not an absolute path"),
        ("~/x", "not an absolute path"),
        ("/" + "x" * 5000, "5,000 bytes"),
        ("   ", "empty"),
        ("FILE", "is a file"),
        ("FILE/x", "is a file"),
    ],
)
def test_junk_in_luthier_home_is_refused_by_name(tmp_path, monkeypatch, junk, says):
    (tmp_path / "FILE").write_text("x")
    monkeypatch.setenv("LUTHIER_HOME", junk.replace("FILE", str(tmp_path / "FILE")))
    with pytest.raises(EnvironmentVariableError, match=f"LUTHIER_HOME=.*{says}") as caught:
        home()
    assert caught.value.fix.startswith("export LUTHIER_HOME=/")


def test_without_luthier_home_the_data_directory_of_the_user_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTHIER_HOME", "")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home() == tmp_path / "luthier"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert home() == Path.home() / ".local/share/luthier"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert home() == Path.home() / "Library/Application Support/luthier"


def test_a_fault_at_any_operation_of_creation_can_be_tried_again(tmp_path):
    for files in every_fault():
        path = tmp_path / f"{files.mode}-{files.fail_at}"
        try:
            with using(files):
                begin(path)
        except (LuthierError, Killed):
            assert files.fired
        run = begin(path, resume=True)
        with run.lock():
            assert not [name for name in os.listdir(path) if ".luthier-" in name]
        assert run in list_runs()


# States


@pytest.mark.parametrize(
    ("events", "state", "step"),
    [
        ([], "failed", 0),
        ([("started", {})], "failed", 0),
        ([("started", {}), ("step", {"step": 3, "loss": 1.0})], "failed", 3),
        ([("step", {"step": 3}), ("finished", {"step": 3, "reason": "max_steps"})], "finished", 3),
        ([("step", {"step": 3}), ("finished", {"step": 3, "reason": "sigint"})], "cancelled", 3),
        ([("step", {"step": 3}), ("failed", {"what": "it broke"})], "failed", 3),
        ([("finished", {"step": 2, "reason": "sigterm"}), ("resumed", {"from_step": 2})], "failed", 2),
        ([("step", {"step": 9}), ("resumed", {"from_step": 5})], "failed", 5),
    ],
)  # fmt: skip
def test_the_state_is_read_from_the_events(events, state, step):
    run = begin()
    with EventLog(run) as log:
        for kind, fields in events:
            log.emit(parse({"type": kind, **fields}))
    status = run.status()
    assert (status.state, status.step) == (state, step)


def test_a_finished_run_whose_process_hangs_is_finished():
    run = begin()
    with run.lock(), EventLog(run) as log:
        log.emit(Step(step=1, loss=2.5))
        assert run.status().state == "running"
        assert run.status().pid == os.getpid()
        log.emit(Finished(step=1, reason="done"))
        assert run.status().state == "finished"
        assert run.status().loss == 2.5


# Locks


def test_a_second_process_is_told_the_pid_of_the_first():
    run = begin()
    with run.lock(), pytest.raises(RunBusyError, match=f"process {os.getpid()}") as caught:
        run.lock().__enter__()
    assert f"kill {os.getpid()}" in caught.value.fix
    with run.lock():
        pass


def owner_of(process):
    owner = locks.Owner.of(process.pid)
    assert owner is not None
    return owner


def test_a_lock_left_by_a_dead_process_is_free_even_when_its_pid_is_taken():
    run = begin()
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        real = owner_of(other)
        assert real.alive
        earlier = locks.Owner(real.pid, str(int(real.start) - 1000), real.boot, real.host)
        other_boot = locks.Owner(real.pid, real.start, "another boot", real.host)
        for stale in (earlier, other_boot, locks.Owner(2**22 + 5, "1", real.boot, real.host)):
            assert not stale.alive
            body = {"pid": stale.pid, "start": stale.start, "boot": stale.boot, "host": stale.host}
            run.lock_file.write_text(json.dumps(body))
            assert run.status().lost
            with run.lock():
                assert run.status().pid == os.getpid()
    finally:
        other.communicate(b"\n")
    assert not real.alive


def test_without_the_locks_of_the_system_the_owner_decides(monkeypatch):
    run = begin()

    def unsupported(fd, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    with run.lock(), pytest.raises(RunBusyError, match=str(os.getpid())):
        run.lock().__enter__()
    with run.lock():
        pass


@pytest.mark.parametrize("junk", ["", "x", "[]", '{"pid": "a"}', "\0" * 10])
def test_junk_in_a_lock_file_holds_nothing(junk):
    run = begin()
    run.lock_file.write_text(junk)
    with run.lock():
        pass


def test_a_zombie_is_dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 20
    while locks.Owner.of(process.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert locks.Owner.of(process.pid) is None
    process.wait()


RACER = """
import os, sys, time
from pathlib import Path
from luthier.errors import RunBusyError
from luthier.runs import RunDirectory

place, me, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def wait_for(name):
    while not (place / name).exists():
        time.sleep(0.002)

for number in range(rounds):
    (place / f"ready-{number}-{me}").touch()
    wait_for(f"go-{number}")
    run = RunDirectory.create(place / f"run-{number}", resume=True)
    try:
        with run.lock():
            (place / f"won-{number}-{os.getpid()}").touch()
            wait_for(f"release-{number}")
    except RunBusyError as error:
        (place / f"lost-{number}-{me}.part").write_text(error.what)
        (place / f"lost-{number}-{me}.part").rename(place / f"lost-{number}-{me}")
"""


def test_of_ten_processes_in_one_directory_exactly_one_works(tmp_path):
    rounds, racers = 5, 10

    def wait(pattern, count):
        deadline = time.monotonic() + 60
        while len(found := sorted(tmp_path.glob(pattern))) < count:
            assert time.monotonic() < deadline, f"{pattern}: {found}"
            time.sleep(0.005)
        return found

    processes = [
        subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), str(n), str(rounds)])
        for n in range(racers)
    ]
    try:
        for number in range(rounds):
            wait(f"ready-{number}-*", racers)
            (tmp_path / f"go-{number}").touch()
            losers = wait(f"lost-{number}-?", racers - 1)
            (winner,) = wait(f"won-{number}-*", 1)
            pid = winner.name.rpartition("-")[2]
            assert all(path.read_text().endswith(f"process {pid}") for path in losers)
            (tmp_path / f"release-{number}").touch()
        assert [process.wait(20) for process in processes] == [0] * racers
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len(list(tmp_path.glob("won-*"))) == rounds


def test_a_run_begun_between_two_looks_is_continued(tmp_path, monkeypatch):
    path, look = tmp_path / "run", directory._check_empty

    def late(place, resume):
        monkeypatch.setattr(directory, "_check_empty", look)
        RunDirectory.create(place)  # another process, in just this moment
        look(place, resume)

    monkeypatch.setattr(directory, "_check_empty", late)
    assert RunDirectory.create(path, resume=True).path == path


def test_a_device_is_leased_to_one_process_at_a_time():
    with device_lease("cuda:0"), device_lease("cuda:1"):
        with pytest.raises(RunBusyError, match=f"device cuda:0 is in use by process {os.getpid()}"):
            device_lease("cuda:0").__enter__()
        assert sorted(os.listdir(home() / "leases")) == ["cuda-0.lock", "cuda-1.lock"]
    with device_lease("cuda:0"):
        pass


# Events


def test_events_reach_the_file_and_every_listener():
    run, heard = begin(), []
    with EventLog(run, [heard.append]) as log:
        log.listen(lambda event: heard.append(event.type))
        log.emit(Notice(text="a line\u2028and more\x85and \ud83d"))
        log.emit(Step(step=1, loss=float("nan")))
    assert heard[1::2] == ["notice", "step"]
    from luthier import events

    first, second = events.read(run.events_file)
    assert first["text"] == "a line\u2028and more\x85and \ud83d"
    assert (second["loss"], second["loss_text"]) == (None, "nan")
    assert 0 <= second["elapsed_s"] < 10_000


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200))
def test_a_log_cut_anywhere_goes_on_and_loses_the_torn_line_only(tmp_path, cut):
    from luthier import events

    path = tmp_path / "events.jsonl"
    path.unlink(missing_ok=True)
    with EventLog(path) as log:
        for number in range(3):
            log.emit(Notice(text=f"número {number}"))
    content = path.read_bytes()
    kept = max(0, len(content) - cut)
    path.write_bytes(content[:kept])
    whole = content[:kept].count(b"\n") + (content[kept : kept + 1] == b"\n")
    with EventLog(path) as log:
        log.emit(Notice(text="after"))
    texts = [event["text"] for event in events.read(path)]
    assert texts == [f"número {number}" for number in range(whole)] + ["after"]


def test_threads_share_a_log():
    import threading

    run = begin()
    with EventLog(run) as log:
        threads = [
            threading.Thread(target=lambda n=n: [log.emit(Notice(text=f"{n}")) for _ in range(50)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = run.events_file.read_text().splitlines()
    assert sorted(json.loads(line)["text"] for line in lines) == sorted("0123" * 50)


def test_no_torch_is_loaded():
    script = "import sys, luthier.runs; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_who_holds_a_device_is_named_and_the_queue_is_offered():
    with device_lease("cpu", what="run first"), pytest.raises(RunBusyError) as refused:
        device_lease("cpu").__enter__()
    assert f"in use by run first, process {os.getpid()}" in refused.value.what
    assert "luthier jobs submit" in refused.value.fix
    assert "kill" not in refused.value.fix
    with device_lease("cpu"):
        pass
