"""Folders with a manifest: complete or absent, and every damage is seen."""

import errno
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.faults import Killed, ShortWrites, every_fault, leftovers

from luthier.durable import (
    MANIFEST,
    DurableFolder,
    FileSystem,
    NewerFormatError,
    clean_stale,
    looks_complete,
    read_manifest,
    remove_folder,
    using,
    verify_folder,
    write_atomic,
)
from luthier.durable.folder import _sealed
from luthier.errors import CheckpointError, DiskFullError, LuthierError, RunError, RunExistsError


def publish(path, text, *, replace=True):
    """One file through `write`, one in a folder below, one written by somebody else."""
    with DurableFolder(path, kind="adapter", record={"text": text}, replace=replace) as folder:
        folder.write("a.bin", [text.encode() * 100, memoryview(b"tail")])
        folder.write("below/b.json", text)
        (folder.path / "by_others.txt").write_text(text)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("there", [True, False])
def test_a_fault_at_any_operation_leaves_the_old_folder_or_the_new_one(tmp_path, error, there):
    for files in every_fault(error):
        place = tmp_path / f"{files.mode}-{files.fail_at}"
        place.mkdir()
        target = place / "result"
        if there:
            publish(target, "old")
        failed = None
        try:
            with using(files):
                publish(target, "new")
        except (LuthierError, Killed) as problem:
            failed = problem
        assert files.fired or not failed
        if error == errno.ENOSPC and isinstance(failed, LuthierError):
            assert isinstance(failed, DiskFullError)
            assert "is free" in failed.what
        if files.mode == "once":
            assert target.exists() == there or not failed or verify_folder(target)
        clean_stale(place)  # what the next start does
        assert leftovers(place) == []
        if target.exists():
            found = verify_folder(target, kind="adapter")["record"]["text"]
            assert found in ({"old", "new"} if there else {"new"})
            assert failed or found == "new"
        else:
            assert failed
            assert not there


def test_short_writes_change_nothing(tmp_path):
    publish(tmp_path / "a", "text")
    with using(ShortWrites()):
        publish(tmp_path / "b", "text")
    names = ["a.bin", "below/b.json", "by_others.txt", MANIFEST]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(verify_folder(tmp_path / "b")["files"]) == names[:3]


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path):
    publish(tmp_path / "a", "old")
    with pytest.raises(RunExistsError):
        publish(tmp_path / "a", "new", replace=False)
    assert verify_folder(tmp_path / "a")["record"] == {"text": "old"}


def test_an_error_inside_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), DurableFolder(tmp_path / "a", kind="x") as folder:
        folder.write("a", str(1 // 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.ENOSPC, "full"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_in_another_library_is_said_as_such(tmp_path, raised):
    with pytest.raises(DiskFullError), DurableFolder(tmp_path / "a", kind="x"):
        raise raised
    assert list(tmp_path.iterdir()) == []


def test_space_is_checked_before_anything_is_written(tmp_path):
    class Small(FileSystem):
        def free_bytes(self, path):
            return 1000

    with (
        using(Small()),
        pytest.raises(DiskFullError, match=r"needs 1.95 KiB, 1000 B is free"),
        DurableFolder(tmp_path / "a", kind="x", needed_bytes=2000),
    ):
        pytest.fail("the block must not be entered")
    assert list(tmp_path.iterdir()) == []


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_bit_flipped_anywhere_is_seen(tmp_path, data):
    folder = tmp_path / "result"
    if not folder.exists():
        publish(folder, "text")
    name = data.draw(st.sampled_from(["a.bin", "below/b.json", "by_others.txt", MANIFEST]))
    intact = (folder / name).read_bytes()
    place = data.draw(st.integers(0, len(intact) - 1))
    broken = bytearray(intact)
    broken[place] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(broken)
    with pytest.raises(CheckpointError, match=name):
        verify_folder(folder)
    (folder / name).write_bytes(intact)
    verify_folder(folder)


@pytest.mark.parametrize("name", ["a.bin", "below/b.json", "by_others.txt", MANIFEST])
@pytest.mark.parametrize("size", [None, 0, 0.5, -1, 1])
def test_a_missing_or_cut_file_is_seen(tmp_path, name, size):
    folder = tmp_path / "result"
    publish(folder, "text")
    intact = (folder / name).read_bytes()
    if size is None:
        (folder / name).unlink()
    elif size == 1:
        (folder / name).write_bytes(intact + b"\n")
    else:
        (folder / name).write_bytes(intact[: int(len(intact) * size) if size >= 0 else size])
    assert not looks_complete(folder)
    with pytest.raises(CheckpointError, match=name):
        verify_folder(folder)


def test_swapped_files_and_links_are_seen_and_all_problems_are_listed(tmp_path):
    folder = tmp_path / "result"
    publish(folder, "text")
    first, second = folder / "below/b.json", folder / "by_others.txt"
    second.write_text("tex!")
    first.rename(tmp_path / "away")
    first.symlink_to(tmp_path / "away")
    with pytest.raises(CheckpointError, match=r"b\.json is not a plain file.*by_others"):
        verify_folder(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body["record"].update(text="another"),
        lambda body: body["files"].pop("a.bin"),
        lambda body: body.pop("sha256"),
        lambda body: body.update(sha256="0" * 64),
        lambda body: body.update(format=0),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path, edit):
    publish(tmp_path / "a", "text")
    manifest = tmp_path / "a" / MANIFEST
    body = json.loads(manifest.read_bytes())
    edit(body)
    manifest.write_text(json.dumps(body, sort_keys=True, indent=1))
    with pytest.raises(CheckpointError, match="checksum"):
        read_manifest(tmp_path / "a")


@pytest.mark.parametrize("junk", [b"", b"[]", b"null", b"{" * 100_000, b"[" * 100_000, b"\xff{}"])
def test_junk_for_a_manifest_is_refused(tmp_path, junk):
    publish(tmp_path / "a", "text")
    (tmp_path / "a" / MANIFEST).write_bytes(junk)
    with pytest.raises(CheckpointError, match=MANIFEST):
        read_manifest(tmp_path / "a")


def test_a_newer_format_and_another_kind_are_refused(tmp_path):
    publish(tmp_path / "a", "text")
    with pytest.raises(CheckpointError, match="adapter, not a checkpoint"):
        read_manifest(tmp_path / "a", kind="checkpoint")
    body = read_manifest(tmp_path / "a")
    write_atomic(tmp_path / "a" / MANIFEST, _sealed({**body, "format": 2}))
    with pytest.raises(NewerFormatError, match="format 2"):
        verify_folder(tmp_path / "a")
    assert looks_complete(tmp_path / "a")


def test_a_removal_is_whole_under_any_fault(tmp_path):
    for files in every_fault():
        place = tmp_path / f"{files.mode}-{files.fail_at}"
        place.mkdir()
        publish(place / "a", "text")
        try:
            with using(files):
                remove_folder(place / "a")
        except (RunError, DiskFullError, Killed):
            assert files.fired
        if (place / "a").exists():
            verify_folder(place / "a")
        clean_stale(place)
        assert leftovers(place) == []
