"""What the runner makes of processes that are gone, and of ids that others have now."""

import subprocess
import sys
from dataclasses import replace

import pytest
from tests.service.conftest import QUICK

from luthier.locks import Owner
from luthier.service import outcome
from luthier.service.follow import Follow
from luthier.service.jobs import Jobs
from luthier.service.process import processes_of
from luthier.service.runner import Runner
from luthier.service.store import Store

JOB = "ftjob-" + "x" * 24


@pytest.fixture
def jobs(luthier_home):
    with Store() as store:
        yield Jobs(store)


@pytest.fixture
def sleeper():
    """A process that leads a session."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    )
    yield Owner.of(process.pid)
    process.kill()
    process.wait()


def test_a_session_is_a_jobs_only_while_the_id_is_its_workers(sleeper):
    assert [one.pid for one in processes_of(JOB, sleeper)] == [sleeper.pid]
    before_a_reboot = replace(sleeper, boot="another boot")
    gone_and_given_again = replace(sleeper, start="1")
    for owner in (before_a_reboot, gone_and_given_again):
        assert processes_of(JOB, owner) == []


def test_a_process_that_died_before_it_was_looked_at_counts_as_lost(jobs, tmp_path):
    job = jobs.create({**QUICK, "dataset": "rows.jsonl"})
    follow = Follow(tmp_path / "events.jsonl", 0)
    how = outcome.of(replace(job, attempts=1), follow, 1)
    assert (how.state, how.values["retries"], how.wait) == ("queued", 1, True)
    assert outcome.of(replace(job, retries=outcome.MAX_RETRIES), follow, 1).state == "failed"
    nothing_started = outcome.of(job, follow, None)
    assert (nothing_started.state, nothing_started.values) == ("queued", {})


def test_trouble_with_one_job_keeps_nobody_from_the_others(jobs):
    gone = Owner(2**22 - 1, "1", "another boot", "here")
    first, second = (jobs.create({**QUICK, "dataset": "rows.jsonl"}) for _ in range(2))
    (first.run_path / "events.jsonl").mkdir(parents=True)  # cannot be read
    for job in (first, second):
        jobs.table.move(job.id, "starting", reason="test", attempts=1, devices=["cpu"])
        jobs.table.note(job.id, worker=gone)
    runner = Runner(jobs, devices=["cpu"])
    with pytest.raises(OSError, match=r"events\.jsonl"):
        runner.tick()
    assert jobs.get(first.id).state == "starting"
    assert (jobs.get(second.id).state, jobs.get(second.id).retries) == ("queued", 1)
