"""The database of the service: durable, alone, refused where it could not keep its promises."""

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.errors import DiskFullError, ServerRunningError, StoreError
from luthier.service.jobs import Jobs
from luthier.service.store import Store, migrations, refuse_network

ROW = b'{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Yo"}]}\n'


def test_a_full_database_accepts_nothing_and_loses_nothing(store, luthier_home):
    jobs = Jobs(store)
    file = jobs.files.add([ROW * 8], "rows.jsonl").id
    kept = [jobs.create({"model": "starter", "dataset": file}).id]
    pages = pragma(store, "page_count")
    store.read(f"PRAGMA max_page_count = {pages + 2}")
    long = {"model": "starter", "dataset": file, "system_prompt": "Be kind. " * 3000}

    def until_it_is_full():
        while len(kept) < 20:
            kept.append(jobs.create(long).id)

    with pytest.raises(DiskFullError, match="disk full"):
        until_it_is_full()
    assert sorted(job.id for job in jobs.table.list()[0]) == sorted(kept)
    store.read(f"PRAGMA max_page_count = {pages + 1000}")
    kept.append(jobs.create(long).id)
    assert sorted(job.id for job in jobs.table.list()[0]) == sorted(kept)


def test_a_database_that_may_not_be_written_says_so(store):
    jobs = Jobs(store)
    file = jobs.files.add([ROW * 8], "rows.jsonl").id
    store.read("PRAGMA query_only = 1")
    with pytest.raises(StoreError, match="readonly"):
        jobs.create({"model": "starter", "dataset": file})
    assert jobs.table.list()[0] == []


@pytest.mark.parametrize("what", ["a folder", "a version below nothing"])
def test_what_is_no_database_is_refused_with_a_sentence(luthier_home, what):
    with Store() as store:
        path = store.path
    if what == "a folder":
        path.unlink()
        path.mkdir()
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = -5")
    with pytest.raises(StoreError, match="is damaged"):
        Store()


@pytest.fixture
def store(luthier_home):
    with Store() as store:
        yield store


def pragma(store, name):
    return store.read(f"PRAGMA {name}")[0][0]


def test_an_acknowledged_job_survives_a_power_cut(store):
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "synchronous") == 2  # FULL
    assert pragma(store, "foreign_keys") == 1
    assert pragma(store, "user_version") == len(migrations())
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_a_second_server_is_refused_with_the_address_of_the_first(store):
    store.set_address("http://127.0.0.1:8321")
    with pytest.raises(ServerRunningError, match=r"http://127.0.0.1:8321"):
        Store(store.home)
    code = f"from pathlib import Path\nfrom luthier.service.store import Store\nStore(Path({str(store.home)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "E718" in done.stderr
    store.close()
    Store(store.home).close()


def test_a_transaction_that_fails_leaves_nothing(store):
    with pytest.raises(ZeroDivisionError), store.write() as connection:  # noqa: PT012
        connection.execute(
            "INSERT INTO job_log (job, time, after, attempt, reason) VALUES ('x', 0, 'queued', 0, '')"
        )
        raise ZeroDivisionError
    assert store.read("SELECT * FROM job_log") == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET state = 'lost'",
        "UPDATE jobs SET state = 'finished'",  # without the moment it finished
        "UPDATE jobs SET state = 'failed', finished_at = 1",  # without an error
        "UPDATE jobs SET finished_at = 1",
        "UPDATE jobs SET priority = 2000",
        "UPDATE jobs SET worker = '{}'",  # a waiting job has no process
        "UPDATE jobs SET given = '{'",
        "UPDATE jobs SET num_devices = 0",
    ],
)
def test_wrong_rows_cannot_be_written(store, statement):
    Jobs(store).create({"model": "starter", "dataset": "rows.jsonl"})
    with pytest.raises(sqlite3.IntegrityError), store.write() as connection:
        connection.execute(statement)
    assert Jobs(store).table.list()[0][0].state == "queued"


def test_a_damaged_database_is_named_and_not_touched(luthier_home):
    with Store() as store:
        path = store.path
    for wal in path.parent.glob("jobs.sqlite-*"):
        wal.unlink()
    damaged = bytearray(path.read_bytes())
    damaged[100:4096] = b"\xff" * 3996
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="is damaged") as caught:
        Store()
    assert str(path) in caught.value.fix
    assert path.read_bytes() == damaged


def test_a_newer_database_is_refused(luthier_home):
    with Store() as store, store.write() as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="version 99"):
        Store()


def test_an_older_one_is_migrated_and_a_copy_kept(luthier_home, monkeypatch):
    with Store() as store:
        job = Jobs(store).create({"model": "starter", "dataset": "rows.jsonl"})
    more = [*migrations(), "ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT 'none';"]
    monkeypatch.setattr("luthier.service.store.migrations", lambda: more)
    with Store() as store:
        assert store.read("SELECT note FROM jobs")[0][0] == "none"
        assert Jobs(store).get(job.id) == job
        copy = store.folder / f"jobs.sqlite.before-{len(more):04d}"
    with sqlite3.connect(copy) as old:
        assert old.execute("SELECT id FROM jobs").fetchall() == [(job.id,)]
        assert old.execute("PRAGMA user_version").fetchone() == (len(more) - 1,)
    old.close()


def test_a_migration_that_fails_changes_nothing(luthier_home, monkeypatch):
    Store().close()
    broken = [*migrations(), "CREATE TABLE more (x INTEGER); SELECT nothing FROM nowhere;"]
    monkeypatch.setattr("luthier.service.store.migrations", lambda: broken)
    with pytest.raises(StoreError, match=f"step {len(broken)} of the migration"):
        Store()
    monkeypatch.undo()
    monkeypatch.setenv("LUTHIER_HOME", str(luthier_home))
    with Store() as store:
        assert store.read("SELECT name FROM sqlite_master WHERE name = 'more'") == []


def test_a_locked_database_says_so_after_waiting(store, monkeypatch):
    with store.write() as connection:
        connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(store.path)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(StoreError, match="locked"):
            Jobs(store).create({"model": "starter", "dataset": "rows.jsonl"})
    finally:
        other.rollback()
        other.close()
    assert Jobs(store).table.list() == ([], False)


@pytest.mark.parametrize(
    ("kind", "refused"), [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False)]
)
def test_network_file_systems_are_refused(kind, refused):
    mounts = f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /far rw,relatime shared:1 - {kind} host:/x rw\n"
    refuse_network(Path("/near/service"), mounts)
    if refused:
        with pytest.raises(StoreError, match=kind):
            refuse_network(Path("/far/home/service"), mounts)
    else:
        refuse_network(Path("/far/home/service"), mounts)
