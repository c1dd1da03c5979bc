"""What may be asked of a job, and that an ended one never changes."""

import itertools
import random
import threading

import pytest

from luthier.errors import (
    IdempotencyError,
    JobNotFoundError,
    JobStateError,
    LuthierError,
    QueueFullError,
    SettingsError,
    UploadNotFoundError,
)
from luthier.service.jobs import Jobs
from luthier.service.states import ALLOWED, TERMINAL
from luthier.service.store import Store

GIVEN = {"model": "starter", "dataset": "rows.jsonl"}


@pytest.fixture
def jobs(luthier_home):
    with Store() as store:
        yield Jobs(store)


def test_an_accepted_job_is_there_after_a_restart(jobs):
    job = jobs.create(GIVEN, name="My job", metadata={"team": "a"}, priority=3)
    assert (job.state, job.name, job.metadata, job.priority) == (
        "queued",
        "My job",
        {"team": "a"},
        3,
    )
    assert job.id.startswith("ftjob-")
    assert len(job.id) == 30
    assert job.settings["learning_rate"] is None
    assert job.run_path.parent == jobs.home / "runs"
    jobs.store.close()
    with Store() as store:
        assert Jobs(store).get(job.id) == job


def test_every_problem_with_the_settings_is_told_before_anything_is_accepted(jobs):
    with pytest.raises(SettingsError, match="2 problems") as caught:
        jobs.create({**GIVEN, "lora_dmi": 8, "dpo_beta": -1})
    assert "did you mean lora_dim" in caught.value.why
    for name, value in (("output_dir", "/tmp/x"), ("resume", True)):
        with pytest.raises(SettingsError, match=name):
            jobs.create({**GIVEN, name: value})
    with pytest.raises(UploadNotFoundError):
        jobs.create({**GIVEN, "dataset": "file-000000000000000000000000"})
    for priority in (5000, "high", True):
        with pytest.raises(SettingsError, match="priority"):
            jobs.create(GIVEN, priority=priority)
    assert jobs.table.list() == ([], False)


def test_the_same_key_is_the_same_job_also_at_once(jobs):
    made, threads = [], []
    for _ in range(8):
        thread = threading.Thread(
            target=lambda: made.append(jobs.create(GIVEN, idempotency_key="k").id)
        )
        threads.append(thread)
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert len(jobs.table.list()[0]) == 1
    with pytest.raises(IdempotencyError, match=made[0]):
        jobs.create({**GIVEN, "seed": 1}, idempotency_key="k")


def test_order_is_priority_then_age(jobs):
    ids = {name: jobs.create(GIVEN, name=name, priority=p).id for name, p in
           (("a", 0), ("b", 0), ("c", 5), ("d", -5))}  # fmt: skip
    assert [job.name for job in jobs.table.waiting()] == ["c", "a", "b", "d"]
    jobs.change(ids["d"], priority=9, name="first")
    assert [job.name for job in jobs.table.waiting()] == ["first", "c", "a", "b"]
    jobs.pause(ids["c"])
    jobs.resume(ids["c"])
    assert [job.name for job in jobs.table.waiting()] == ["first", "c", "a", "b"]
    jobs.pause(ids["a"])
    jobs.resume(ids["a"])  # goes behind those of its priority that waited meanwhile
    assert [job.name for job in jobs.table.waiting()] == ["first", "c", "b", "a"]


def test_pages_go_through_all_jobs_once(jobs):
    made = [jobs.create(GIVEN).id for _ in range(5)]
    seen, after, more = [], None, True
    while more:
        page, more = jobs.table.list(after=after, limit=2)
        seen += [job.id for job in page]
        after = seen[-1]
    assert seen == made[::-1]
    jobs.cancel(made[1])
    assert [job.id for job in jobs.table.list(state="cancelled")[0]] == [made[1]]
    assert len(jobs.table.list(state=["queued", "running"])[0]) == 4


def test_waiting_jobs_are_cancelled_and_paused_at_once(jobs):
    job = jobs.create(GIVEN)
    assert jobs.pause(job.id).state == "paused"
    assert jobs.pause(job.id).state == "paused"
    assert jobs.resume(job.id).state == "queued"
    assert jobs.cancel(job.id).state == "cancelled"
    states = [entry.after for entry in jobs.table.history(job.id)]
    assert states == ["created", "queued", "paused", "queued", "cancelled"]


def test_a_job_at_work_gets_a_wish(jobs):
    job = jobs.create(GIVEN)
    with pytest.raises(JobStateError, match="cannot stop early"):
        jobs.stop_early(job.id)
    jobs.table.move(job.id, "starting", reason="", attempts=1)
    jobs.table.move(job.id, "running", reason="")
    assert jobs.stop_early(job.id).wish == "stop_early"
    assert jobs.pause(job.id).wish == "pause"
    assert jobs.cancel(job.id).wish == "cancel"
    assert jobs.cancel(job.id).state == "running"
    with pytest.raises(JobStateError, match="being cancelled"):
        jobs.pause(job.id)
    assert jobs.table.move(job.id, "cancelled", reason="stopped").wish is None


def test_retry_goes_on_in_the_same_directory_and_clone_begins_a_new_one(jobs):
    job = jobs.create(GIVEN, name="x", metadata={"a": "b"})
    with pytest.raises(JobStateError, match="cannot retry"):
        jobs.retry(job.id)
    jobs.cancel(job.id)
    again = jobs.retry(job.id)
    assert (again.run_path, again.retry_of, again.name) == (job.run_path, job.id, "x")
    with pytest.raises(JobStateError, match="another job"):
        jobs.retry(job.id)
    other = jobs.clone(job.id, seed=7)
    assert other.run_path != job.run_path
    assert (other.settings["seed"], other.metadata) == (7, {"a": "b"})


def test_deleting_removes_the_run_when_nobody_else_has_it(jobs):
    job = jobs.create(GIVEN)
    with pytest.raises(JobStateError, match="cannot delete"):
        jobs.delete(job.id)
    jobs.cancel(job.id)
    job.run_path.mkdir(parents=True)
    (job.run_path / "events.jsonl").write_text("")
    again = jobs.retry(job.id)
    jobs.delete(job.id)
    assert job.run_path.exists()
    with pytest.raises(JobNotFoundError):
        jobs.get(job.id)
    jobs.cancel(again.id)
    jobs.delete(again.id)
    assert not job.run_path.exists()
    assert jobs.table.list() == ([], False)


def test_a_deletion_cut_short_is_finished_at_the_next_start(jobs):
    job = jobs.create(GIVEN)
    jobs.cancel(job.id)
    job.run_path.mkdir(parents=True)
    with jobs.store.write() as connection:
        connection.execute("UPDATE jobs SET deleted = 1")
    Jobs(jobs.store)
    assert not job.run_path.exists()
    assert jobs.store.read("SELECT * FROM jobs") == []


def test_the_queue_is_bounded(jobs):
    jobs.max_waiting = 2
    jobs.create(GIVEN)
    jobs.create(GIVEN)
    with pytest.raises(QueueFullError, match="2 jobs wait"):
        jobs.create(GIVEN)


def test_held_jobs_wait_for_their_check(jobs):
    good, bad = jobs.create(GIVEN, hold=True), jobs.create(GIVEN, hold=True)
    assert jobs.table.waiting() == []
    assert jobs.release(good.id).state == "queued"
    error = {"code": "E204", "what": "bad rows", "why": "", "fix": ""}
    assert jobs.reject(bad.id, error).error == error


@pytest.mark.parametrize(
    "id", ["x", "../1", "ftjob-" + "0" * 24, "' OR 1=1 --", "%2e%2e", "9" * 100]
)
def test_unknown_ids_are_not_found(jobs, id):
    jobs.create(GIVEN)
    for ask in (
        jobs.get,
        jobs.cancel,
        jobs.pause,
        jobs.resume,
        jobs.retry,
        jobs.delete,
        jobs.table.history,
    ):
        with pytest.raises(JobNotFoundError):
            ask(id)


def test_random_interleavings_end_in_one_last_state(jobs):
    draw = random.Random(0)
    asks = [jobs.cancel, jobs.pause, jobs.resume, jobs.stop_early]
    for _ in range(40):
        job = jobs.create(GIVEN, hold=draw.random() < 0.3)
        for _ in range(15):
            before = jobs.get(job.id)
            try:
                if draw.random() < 0.5:
                    draw.choice(asks)(job.id)
                else:
                    to = draw.choice(sorted(ALLOWED))
                    values = {"error": {"code": "E000"}} if to == "failed" else {}
                    jobs.table.move(job.id, to, reason="", **values)
            except LuthierError:
                assert jobs.get(job.id) == before  # refused: nothing changed
            now = jobs.get(job.id)
            if before.state in TERMINAL:
                assert now == before
        steps = [(e.before, e.after) for e in jobs.table.history(job.id)]
        assert all(a == c for (_, a), (c, _) in itertools.pairwise(steps))
        assert sum(after in TERMINAL and after != before for before, after in steps) <= 1
