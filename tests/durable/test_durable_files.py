"""Whole files and lines: the old content or the new, under any fault at any operation."""

import errno
import os
import subprocess
import sys

import pytest
from tests.faults import FaultyFiles, Killed, ShortWrites, every_fault, leftovers

from luthier.durable import (
    AppendFile,
    append_line,
    clean_stale,
    free_bytes,
    make_folders,
    require_space,
    using,
    write_atomic,
)
from luthier.errors import DiskFullError, LuthierError, RunError, RunExistsError
from luthier.locks import start_of

OLD, NEW = b"old content\n", b"new content, longer than the old one\n" * 50


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS, errno.EINTR, errno.EFBIG]
)
def test_a_fault_at_any_operation_leaves_the_old_file_or_the_new_one(tmp_path, error, there):
    target = tmp_path / "settings.json"
    for files in every_fault(error):
        target.unlink(missing_ok=True)
        if there:
            target.write_bytes(OLD)
        failed = False
        try:
            with using(files):
                write_atomic(target, NEW)
        except (LuthierError, Killed):
            failed = True
        assert failed or target.read_bytes() == NEW
        assert not failed or files.fired
        if target.exists():
            assert target.read_bytes() in ({OLD, NEW} if there else {NEW})
        else:
            assert not there
        clean_stale(tmp_path)
        assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_with_path_need_and_free_space(tmp_path, error):
    target = tmp_path / "plan.json"
    with using(FaultyFiles(2, error=error)), pytest.raises(DiskFullError) as caught:
        write_atomic(target, b"x" * 3 * 2**20)
    assert str(target) in caught.value.what
    assert "needs 3 MiB" in caught.value.what
    assert "is free" in caught.value.what
    assert caught.value.fix


def test_another_failure_is_a_run_error_with_the_reason(tmp_path):
    with (
        using(FaultyFiles(2, error=errno.EIO)),
        pytest.raises(RunError, match="Input/output error"),
    ):
        write_atomic(tmp_path / "a", b"x")


def test_short_writes_are_continued(tmp_path):
    with using(ShortWrites()):
        write_atomic(tmp_path / "a", NEW)
        append_line(tmp_path / "b", "a line that is longer than seven bytes")
    assert (tmp_path / "a").read_bytes() == NEW
    assert (tmp_path / "b").read_text() == "a line that is longer than seven bytes\n"


def test_exclusive_never_replaces(tmp_path):
    write_atomic(tmp_path / "a", OLD, exclusive=True)
    with pytest.raises(RunExistsError):
        write_atomic(tmp_path / "a", NEW, exclusive=True)
    assert (tmp_path / "a").read_bytes() == OLD
    assert leftovers(tmp_path) == []


def test_a_torn_last_line_is_closed_before_the_next_one(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\n{"b": "caf\xc3')  # killed inside a character
    append_line(path, '{"c": 3}')
    assert path.read_bytes().split(b"\n") == [b'{"a": 1}', b'{"b": "caf\xc3', b'{"c": 3}', b""]


def test_a_line_torn_by_any_fault_spoils_no_other_line(tmp_path):
    path = tmp_path / "events.jsonl"
    seen = set()
    for files in every_fault(modes=("once",)):
        path.write_text("first\n")
        with using(files):
            try:
                append_line(path, "second")
            except DiskFullError:
                assert files.fired
        append_line(path, "third")
        assert path.read_bytes().endswith(b"\nthird\n")
        seen.update(path.read_text().split("\n")[1:-2])
    assert seen == {"second", "sec"}  # what is torn stands alone, no line is glued to another


def test_a_log_goes_on_after_the_disk_was_full(tmp_path):
    files = FaultyFiles(3)
    with using(files), AppendFile(tmp_path / "log") as log:
        log.append("one")
        with pytest.raises(DiskFullError):
            log.append("two")
        log.append("three")
    assert (tmp_path / "log").read_text() == "one\ntw\nthree\n"


def test_cleaning_touches_what_dead_processes_left_and_nothing_else(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    start = start_of(dead.pid)
    dead.wait()
    stale = tmp_path / f".result.{dead.pid}-{start}.0123456789ab.luthier-part"
    stale.mkdir()
    (stale / "half").write_text("x")
    live = f".result.{os.getppid()}-{start_of(os.getppid())}.0123456789ab.luthier-part"
    mine = [
        live,
        ".hidden",
        ".a.luthier-part",
        "x.1-1.0123456789ab.luthier-part",
        ".b.tmp",
        "step-000001",
    ]
    for name in mine:
        (tmp_path / name).write_text("x")
    assert clean_stale(tmp_path) == [stale]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mine)
    assert clean_stale(tmp_path / "absent") == []


def test_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.2)
    with pytest.raises(DiskFullError, match=r"needs .* GiB"):
        require_space(tmp_path / "a", 2**60)


def test_folders_are_made_with_their_parents(tmp_path):
    make_folders(tmp_path / "a" / "b" / "c")
    make_folders(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="file"):
        make_folders(tmp_path / "file" / "x")


def test_a_real_file_size_limit_is_told_as_what_it_is(tmp_path):
    script = """
import resource, sys
from pathlib import Path
from luthier.durable import write_atomic
from luthier.locks import start_of
from luthier.errors import DiskFullError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_atomic(Path(sys.argv[1]), b"x" * 10000)
except DiskFullError as error:
    print(error.what, error.why)
"""
    target = tmp_path / "a"
    target.write_bytes(OLD)
    done = subprocess.run(
        [sys.executable, "-c", script, str(target)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert done.stdout.startswith(f"{target} would be larger than a file may be here")
    assert "4 KiB (ulimit -f)" in done.stdout
    assert target.read_bytes() == OLD
    assert leftovers(tmp_path) == []
