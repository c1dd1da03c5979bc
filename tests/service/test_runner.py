"""The runner with real workers on the starter model: start, stop, take over, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.service.conftest import LONG, QUICK, Queue, in_session, marked, wait_for

from luthier import events
from luthier.locks import Owner
from luthier.runs import device_lease
from luthier.service.files import new_id
from luthier.service.follow import cap_log
from luthier.service.process import ColdStart, end, environment, processes_of


def started(queue, id):
    """The worker of a job that trains."""
    queue.wait_step(id, 1)
    queue.wait(id, "running", "saving")
    return queue.jobs.get(id).worker


def test_a_job_becomes_a_run_with_a_result(queue):
    id = queue.add()
    job = queue.wait(id, "finished", "failed")
    assert (job.state, job.error, job.attempts, job.retries) == ("finished", None, 1, 0)
    assert job.model == f"ft:starter:local::{id[-8:]}"
    assert (job.result / "adapter_model.safetensors").exists()
    assert (job.worker, job.devices) == (None, ())
    assert job.created_at <= job.queued_at <= job.started_at <= job.finished_at
    saved = json.loads((job.run_path / "settings.json").read_text())
    assert saved["settings"]["output_dir"] == str(job.run_path)
    assert set(queue.states(id)) <= {
        "created",
        "queued",
        "starting",
        "running",
        "saving",
        "finished",
    }


def test_one_at_a_time_by_priority_then_age(queue):
    first = queue.add(LONG)
    started(queue, first)
    ids = [queue.add(), queue.add(), queue.add()]
    queue.jobs.change(ids[2], priority=5)
    assert [queue.jobs.get(id).state for id in ids] == ["queued"] * 3
    queue.jobs.cancel(first)
    jobs = [queue.wait(id, "finished") for id in ids]
    assert jobs[2].started_at < jobs[0].started_at < jobs[1].started_at
    assert jobs[2].finished_at <= jobs[0].started_at
    assert jobs[0].finished_at <= jobs[1].started_at


def test_an_error_of_the_run_is_the_error_of_the_job(queue):
    bad = queue.jobs.files.add([b'{"messages": []}\n'], "rows.jsonl").id
    id = queue.add(dataset=bad)
    job = queue.wait(id, "failed")
    assert job.error["code"].startswith("E2")
    assert job.error["what"]
    assert job.error["fix"]
    assert job.attempts == 1  # an error that would come again is not tried again
    assert job.error["what"] in (job.run_path / "stderr.log").read_text()


def test_pause_saves_and_resume_goes_on(queue):
    id = queue.add(LONG)
    started(queue, id)
    queue.jobs.pause(id)
    job = queue.wait(id, "paused")
    assert "pausing" in queue.states(id)
    kept = sorted(path.name for path in (job.run_path / "checkpoints").iterdir())
    assert kept
    queue.jobs.resume(id)
    worker = started(queue, id)
    wait_for(lambda: '"resumed"' in (job.run_path / "events.jsonl").read_text())
    resumed = [e for e in events.read(job.run_path / "events.jsonl") if e["type"] == "resumed"]
    assert resumed[-1]["from_step"] == int(kept[-1].removeprefix("step-")) > 0
    queue.jobs.cancel(id)
    job = queue.wait(id, "cancelled")
    assert (job.attempts, job.retries, job.error) == (2, 0, None)
    assert in_session(worker.pid) == []


def test_stop_early_ends_with_a_result(queue):
    id = queue.add(LONG)
    started(queue, id)
    queue.jobs.stop_early(id)
    job = queue.wait(id, "finished")
    assert (job.result / "adapter_model.safetensors").exists()
    last = [e for e in events.read(job.run_path / "events.jsonl") if e["type"] == "finished"][-1]
    assert last["reason"] == "ended_on_request"
    assert last["step"] < LONG["max_steps"]


def test_a_killed_worker_goes_on_from_its_checkpoint_twice_and_not_more(queue):
    id = queue.add(LONG)
    for attempt in (1, 2, 3):
        wait_for(lambda n=attempt: queue.jobs.get(id).attempts == n)
        worker = started_attempt(queue, id, attempt)
        os.kill(worker.pid, signal.SIGKILL)
    job = queue.wait(id, "failed")
    assert (job.attempts, job.retries, job.error["code"]) == (3, 2, "E713")
    assert "SIGKILL" in job.error["what"]
    reasons = [e.reason for e in queue.jobs.table.history(id)]
    assert sum("automatic retry" in reason for reason in reasons) == 2
    again = queue.jobs.retry(id)
    started(queue, again.id)
    assert again.run_path == job.run_path
    queue.jobs.cancel(again.id)
    queue.wait(again.id, "cancelled")


def started_attempt(queue, id, attempt):
    """The worker of an attempt, once it has saved something of its own."""

    def steps():
        job = queue.jobs.get(id)
        path = job.run_path / "events.jsonl"
        new = path.read_bytes()[job.events_from :] if path.exists() else b""
        return job.attempts == attempt and job.worker and b'"checkpoint"' in new and job.worker

    return wait_for(steps)


def test_a_running_job_is_taken_over_by_the_next_server(queue):
    id = queue.add({**QUICK, "max_steps": 60})
    worker = started(queue, id)
    queue.reopen()
    assert queue.jobs.get(id).worker == worker
    job = queue.wait(id, "finished", "failed", "queued")
    assert (job.state, job.attempts) == ("finished", 1)


def test_what_ended_while_nobody_watched_is_settled_at_the_next_start(queue):
    id = queue.add()
    worker = started(queue, id)
    queue.close()
    wait_for(lambda: not worker.alive)
    queue.open()
    queue.runner.start()
    job = queue.wait(id, "finished", "failed", "queued")
    assert (job.state, job.attempts) == ("finished", 1)


def test_a_start_that_nobody_wrote_down_is_found_or_done_again(queue):
    id = queue.add(LONG)
    worker = started(queue, id)
    queue.close()
    queue.open()
    with queue.store.write() as connection:  # as if the server had died before it knew the process
        connection.execute("UPDATE jobs SET worker = NULL, state = 'starting'")
    queue.runner.start()
    assert wait_for(lambda: queue.jobs.get(id).worker) == worker
    queue.close()
    queue.open()
    os.kill(worker.pid, signal.SIGKILL)
    wait_for(lambda: not worker.alive)
    with queue.store.write() as connection:
        connection.execute("UPDATE jobs SET worker = NULL, state = 'starting'")
    queue.runner.start()
    wait_for(lambda: queue.jobs.get(id).attempts == 2)
    assert queue.jobs.get(id).retries == 0  # nothing was known to have been started


def test_an_attempt_that_was_replaced_does_nothing(queue, warm):
    id = queue.add(LONG)
    started(queue, id)
    job = queue.jobs.get(id)
    log = job.run_path / "late.log"
    late = warm.start(job.run_path, id, 0, environment(queue.jobs.home, id, ["cpu"]), log)
    wait_for(lambda: late.status is not None)
    assert late.status in (74, 75)
    assert log.read_text() == ""
    assert queue.jobs.get(id).worker == job.worker


def test_a_device_that_the_command_line_has_is_waited_for(queue):
    with device_lease("cpu"):
        id = queue.add()
        time.sleep(0.6)
        assert queue.jobs.get(id).state == "queued"
    assert queue.wait(id, "finished").attempts == 1


def test_a_job_takes_all_its_devices_or_none(luthier_home, warm):
    """Names of GPUs that are not there: the lease is what is looked at, the run then fails."""
    queue = Queue(warm, {"devices": ["cuda:0", "cuda:1"], "warm": False})
    try:
        with device_lease("cuda:1"):
            both, one = queue.add(devices=2), queue.add()
            queue.runner.tick()
            states = [queue.jobs.get(id).state for id in (both, one)]
            assert states == ["queued", "queued"]  # and nobody overtakes
        many = queue.add(devices=3)
        queue.jobs.change(many, priority=9)
        queue.jobs.cancel(both)
        queue.jobs.cancel(one)
        queue.runner.tick()
        assert queue.jobs.get(many).error["code"] == "E303"
    finally:
        queue.close()


def test_chat_is_asked_to_make_way(luthier_home, warm):
    asked = []
    queue = Queue(warm, {"make_way": lambda: asked.append(1) or True})
    try:
        with device_lease("cpu"):
            queue.add()
            queue.runner.tick()
        assert asked == [1]
    finally:
        queue.close()


def test_a_suspended_worker_is_told_of_and_left_alone(luthier_home, warm):
    queue = Queue(warm, {"silent_s": 4.0})
    queue.runner.start()
    try:
        id = queue.add(LONG)
        worker = started(queue, id)
        os.kill(worker.pid, signal.SIGSTOP)
        said = [["no sign of life"], ["no sign of life", "sign of life again"]]
        for texts in said:
            wait_for(
                lambda wanted=texts: all(
                    any(text in e.reason for e in queue.jobs.table.history(id)) for text in wanted
                )
            )
            os.kill(worker.pid, signal.SIGCONT)
        assert queue.jobs.get(id).worker == worker
        queue.jobs.cancel(id)
        queue.wait(id, "cancelled")
    finally:
        queue.close()


STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
kept = dict(os.environ)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
bare = {name: value for name, value in kept.items() if name != "LUTHIER_JOB"}
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=bare)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(600)
print("ready", flush=True)
time.sleep(600)
"""


def test_processes_that_ignore_leave_and_hide_are_all_found(tmp_path, monkeypatch):
    """A worker that ignores SIGTERM, a child in another session, one without the mark, a daemon."""
    job = new_id("ftjob-")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", STUBBORN],
            env=environment(tmp_path, job, ["cpu"]),
            stdout=output,
            start_new_session=True,
        )
    worker = Owner.of(process.pid)
    try:
        wait_for(lambda: b"ready" in log.read_bytes())
        found = processes_of(job, worker)
        assert len(found) == 4
        process.terminate()
        time.sleep(0.2)
        assert worker.alive
    finally:
        left = end(processes_of(job, worker))
        process.wait()
    assert left == []
    assert marked(job) == []
    assert in_session(process.pid) == []


def test_the_environment_holds_no_token_and_the_command_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTHIER_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "hub")
    env = environment(tmp_path, "ftjob-x", ["cuda:1", "cuda:3"])
    assert "secret" not in env.values()
    assert env["HF_TOKEN"] == "hub"
    assert env["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert env["LUTHIER_HOME"] == str(tmp_path)
    assert environment(tmp_path, "ftjob-x", ["cpu"])["CUDA_VISIBLE_DEVICES"] == ""


def test_a_fresh_interpreter_works_as_the_warm_one(queue):
    queue.runner._warm = False
    job = queue.wait(queue.add(), "finished", "failed")
    assert (job.state, job.attempts) == ("finished", 1)
    assert isinstance(queue.runner._cold, ColdStart)


@pytest.mark.parametrize("size", [100, 5 * 2**20])
def test_logs_are_capped(tmp_path, size):
    log = tmp_path / "stderr.log"
    with log.open("ab") as file:
        file.write(b"x" * (size - 4) + b"end\n")
        file.flush()
        cut = cap_log(log)
        file.write(b"more\n")
    assert cut == (size > 4 * 2**20)
    if cut:
        assert log.read_bytes() == b"more\n"
        kept = (tmp_path / "stderr.log.1").read_bytes()
        assert kept.endswith(b"end\n")
        assert len(kept) < 1.1 * 2**20
    else:
        assert log.stat().st_size == size + 5
