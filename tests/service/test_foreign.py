"""A run that the command line started appears by itself, and can be watched and cancelled only."""

import json
import signal
import subprocess
import sys
import time

import pytest
from tests.service.conftest import wait_for

from luthier.config.read import load
from luthier.errors import JobStateError
from luthier.events import Started, Step, parse
from luthier.runs import EventLog, RunDirectory
from luthier.service.jobs import Jobs
from luthier.service.store import Store

GIVEN = {"model": "starter", "dataset": "rows.jsonl"}


@pytest.fixture
def jobs(luthier_home):
    with Store() as store:
        yield Jobs(store)


def make(tmp_path, name, *ending):
    run = RunDirectory.create(tmp_path / name, resume=False)
    run.settings_file.write_text(load(GIVEN).to_json())
    with EventLog(run) as log:
        log.emit(Started())
        log.emit(Step(step=1, total=2, loss=1.0))
        for kind, fields in ending:
            log.emit(parse({"type": kind, **fields}))
    return run


def test_runs_and_jobs_are_listed_together_newest_first(jobs, tmp_path):
    made = []
    for number in range(3):
        made.append(
            make(tmp_path, f"run-{number}", ("finished", {"reason": "completed", "step": 2}))
        )
        made.append(jobs.create(GIVEN))
    wanted = [getattr(one, "id", None) or one.name for one in reversed(made)]
    for limit in (1, 2, 4, 10):
        seen, after, more = [], None, True
        while more:
            page, more = jobs.listing.all(after=after, limit=limit)
            seen += [job.id if job.managed else job.name for job in page]
            after = page[-1].id if page else after
        assert seen == wanted
    assert [job.managed for job in jobs.table.list()[0]] == [True] * 3


def test_what_a_run_says_is_what_is_shown(jobs, tmp_path):
    error = {"code": "E207", "what": "too long", "why": "", "fix": ""}
    make(tmp_path, "good", ("finished", {"reason": "completed", "step": 2}))
    make(tmp_path, "bad", ("failed", error))
    make(tmp_path, "gone")
    make(tmp_path, "stopped", ("finished", {"reason": "interrupted", "step": 1}))
    found = {job.name: job for job in jobs.listing.runs()}
    assert {name: job.state for name, job in found.items()} == {
        "good": "finished", "bad": "failed", "gone": "failed", "stopped": "cancelled"
    }  # fmt: skip
    assert found["bad"].error == error
    assert found["gone"].error["code"] == "E713"
    job = jobs.get(found["good"].id)
    assert (job.settings["model"], job.managed, len(job.id)) == ("starter", False, 30)
    for ask in (jobs.cancel, jobs.pause, jobs.resume, jobs.retry, jobs.delete, jobs.stop_early):
        with pytest.raises(JobStateError):
            ask(job.id)
    copy = jobs.clone(job.id, seed=3)
    assert (copy.managed, copy.settings["model"], copy.settings["seed"]) == (True, "starter", 3)


def test_a_run_of_a_job_is_not_shown_twice(jobs):
    job = jobs.create(GIVEN)
    run = RunDirectory.create(job.run_path, resume=True)
    run.settings_file.write_text(load(GIVEN).to_json())
    with EventLog(run) as log:
        log.emit(Started())
    assert jobs.listing.runs() == []
    assert [one.id for one in jobs.listing.all()[0]] == [job.id]


HOLD = """
import sys, time
from pathlib import Path
from luthier.runs import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_live_run_is_running_and_cancel_sends_it_sigterm(jobs, tmp_path):
    run = make(tmp_path, "live")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        (job,) = jobs.listing.runs()
        assert (job.state, job.worker.pid) == ("running", process.pid)
        jobs.cancel(job.id)
        assert process.wait(20) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert wait_for(lambda: jobs.get(job.id).state == "failed")  # this one cannot say goodbye


def test_an_unchanged_run_is_not_read_again(jobs, tmp_path):
    run = make(tmp_path, "big")
    with run.events_file.open("a") as file:
        line = json.dumps({"type": "step", "step": 1, "time": 0.0, "elapsed_s": 0.0, "loss": 1.0})
        file.write((line + "\n") * 50_000)
    begun = time.perf_counter()
    first = jobs.listing.runs()
    took = time.perf_counter() - begun
    begun = time.perf_counter()
    assert jobs.listing.runs() == first
    assert time.perf_counter() - begun < took / 5
