"""Uploads: whole or absent, under our own names, within limits."""

import hashlib
import io

import pytest

from luthier.durable import FileSystem, using
from luthier.errors import (
    DiskFullError,
    ServiceError,
    UploadInUseError,
    UploadNotFoundError,
    UploadTooLargeError,
)
from luthier.service.files import Files, safe_label
from luthier.service.jobs import Jobs
from luthier.service.store import Store

ROWS = b'{"prompt": "a", "completion": "b"}\n' * 100


@pytest.fixture
def store(luthier_home):
    with Store() as store:
        yield store


def names(files):
    return sorted(path.name for path in files.folder.iterdir())


@pytest.mark.parametrize("stream", [io.BytesIO(ROWS), [ROWS[:7], b"", ROWS[7:]]])
def test_a_file_arrives_byte_for_byte(store, stream):
    files = Files(store)
    file = files.add(stream, "rows.jsonl")
    assert files.path(file.id).read_bytes() == ROWS
    assert (file.bytes, file.sha256) == (len(ROWS), hashlib.sha256(ROWS).hexdigest())
    assert files.get(file.id) == file
    assert names(files) == [f"{file.id}.jsonl"]


def test_too_large_and_no_space_leave_nothing(store):
    files = Files(store, max_bytes=1000)
    with pytest.raises(UploadTooLargeError, match=r"larger than 1000 B"):
        files.add(io.BytesIO(ROWS), "rows.jsonl")

    class Small(FileSystem):
        def free_bytes(self, path):
            return 10

    with using(Small()), pytest.raises(DiskFullError):
        Files(store).add(io.BytesIO(ROWS), "rows.jsonl")
    assert names(files) == []
    assert files.list() == ([], False)


def test_an_upload_that_breaks_off_leaves_nothing(store):
    def pieces():
        yield ROWS
        raise ConnectionResetError

    files = Files(store)
    with pytest.raises(ConnectionResetError):
        files.add(pieces(), "rows.jsonl")
    assert names(files) == []


def test_what_a_kill_left_is_swept_at_the_next_start(store):
    files = Files(store)
    kept = files.add(io.BytesIO(ROWS), "rows.jsonl")
    (files.folder / "file-000000000000000000000000.jsonl").write_bytes(b"renamed, never recorded")
    (files.folder / ".file-1.jsonl.999999-1.0123456789ab.luthier-part").write_bytes(b"half")
    assert names(Files(store)) == [f"{kept.id}.jsonl"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\rows.jsonl", "rows.jsonl"),
        ("ro\u202ews\x00\n.jsonl", "rows.jsonl"),
        ("", "file"),
        ("..", "file"),
        ("数据.jsonl", "数据.jsonl"),
        ("a" * 300 + ".jsonl", "a" * 180 + ".jsonl"),
    ],
)
def test_names_are_for_showing_only(store, given, shown):
    files = Files(store)
    file = files.add(io.BytesIO(ROWS), given)
    assert file.filename == safe_label(given) == shown
    assert files.path(file.id).parent == files.folder


@pytest.mark.parametrize(
    ("name", "ending"),
    [("a.CSV", ".csv"), ("a.json.gz", ".json.gz"), ("a.exe", ".jsonl"), ("a.parquet", ".parquet")],
)
def test_the_ending_says_what_the_reader_will_see(store, name, ending):
    files = Files(store)
    file = files.add(io.BytesIO(ROWS), name)
    assert files.path(file.id).name == file.id + ending


@pytest.mark.parametrize(
    "id", ["file-x", "../jobs.sqlite", "file-" + "0" * 24, "'; --", "file-" + "/" * 24]
)
def test_unknown_ids_are_not_found(store, id):
    files = Files(store)
    for ask in (files.get, files.path, files.delete):
        with pytest.raises(UploadNotFoundError):
            ask(id)


def test_a_linked_file_is_not_followed(store, tmp_path):
    files = Files(store)
    file = files.add(io.BytesIO(ROWS), "rows.jsonl")
    secret = tmp_path / "secret"
    secret.write_text("x")
    path = files.path(file.id)
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(UploadNotFoundError):
        files.path(file.id)


def test_unknown_purpose(store):
    with pytest.raises(ServiceError, match="purpose='train'"):
        Files(store).add(io.BytesIO(ROWS), "rows.jsonl", "train")


def test_pages_go_through_all_files_once(store):
    files = Files(store)
    made = [files.add([b"x"], f"{n}.txt").id for n in range(5)]
    for order, wanted in (("desc", made[::-1]), ("asc", made)):
        seen, after, more = [], None, True
        while more:
            page, more = files.list(after=after, limit=2, order=order)
            seen += [file.id for file in page]
            after = seen[-1]
        assert seen == wanted


def test_a_file_in_use_stays(store):
    jobs = Jobs(store)
    file = jobs.files.add(io.BytesIO(ROWS), "rows.jsonl")
    job = jobs.create({"model": "starter", "dataset": [file.id]})
    assert job.settings["dataset"] == [str(jobs.files.path(file.id))]
    assert jobs.table.files_of(job.id) == [file.id]
    with pytest.raises(UploadInUseError, match=job.id):
        jobs.files.delete(file.id)
    jobs.cancel(job.id)
    jobs.files.delete(file.id)
    assert names(jobs.files) == []
