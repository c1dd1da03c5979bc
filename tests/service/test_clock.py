"""The clock of the machine is set, forwards and back, while jobs wait and run."""

import time

import pytest
from tests.service.conftest import LONG, QUICK, Queue, marked

YEARS = 10 * 365 * 86400


def test_jobs_run_be_the_clock_years_ahead_or_behind(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    first = queue.add(LONG)
    queue.wait(first, "running")
    queue.wait_step(first, 2)
    second = queue.add(QUICK)
    monkeypatch.setattr("time.time", lambda: real() + YEARS)
    third = queue.add(QUICK)
    queue.jobs.pause(first)
    queue.wait(first, "paused")
    queue.wait(second, "finished")
    monkeypatch.setattr("time.time", lambda: real() - YEARS)
    queue.wait(third, "finished")
    queue.jobs.resume(first)
    queue.wait(first, "running")
    queue.jobs.cancel(first)
    queue.wait(first, "cancelled")
    assert marked(first) == []
    assert [job.id for job in queue.jobs.table.list()[0]] == [third, second, first]  # by number
    assert all(job.finished_at is not None for job in queue.jobs.table.list()[0])
