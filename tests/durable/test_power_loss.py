"""A power cut at any moment, with any of the unsynced work lost: old or new, never half.

What the disk holds after a cut is modelled from the system calls that were made.  A file's bytes
are safe once the file is synced; a name (made, renamed, removed) is safe once its folder is.  What
is not safe may have happened or not, names independently of each other, contents cut or garbled.
"""

import contextlib
import os
import random
import shutil
from pathlib import Path

import pytest
from tests.faults import FastFiles

from luthier.durable import (
    DurableFolder,
    clean_stale,
    make_folders,
    remove_folder,
    using,
    verify_folder,
    write_atomic,
)
from luthier.errors import CheckpointError


class Node:
    """A file or folder of the model: what is in it now, and what a power cut cannot take."""

    def __init__(self, folder):
        self.folder = folder
        self.data, self.safe_data = b"", b""
        self.names, self.safe_names = {}, {}
        self.pending = []  # changes of names since the folder was synced: (name, node or None)

    def put(self, name, node):
        self.pending.append((name, node))
        if node is None:
            self.names.pop(name, None)
        else:
            self.names[name] = node

    def sync(self):
        self.safe_data = self.data
        self.safe_names, self.pending = dict(self.names), []

    def after_a_cut(self, path, chance):
        """Write one of the states that the disk may be in to `path`."""
        if not self.folder:
            data = self.safe_data
            if self.data != self.safe_data:
                half = self.data[: chance.randrange(len(self.data) + 1)]
                data = chance.choice([data, half, self.data, bytes(len(self.data))])
            path.write_bytes(data)
            return
        path.mkdir()
        names = dict(self.safe_names)
        # A rename is one change: both its names or neither.
        for change in self.pending:
            if chance.random() < 0.5:
                for name, node in change if isinstance(change[0], tuple) else [change]:
                    names.pop(name, None) if node is None else names.update({name: node})
        for name, node in names.items():
            node.after_a_cut(path / name, chance)


class Recorder(FastFiles):
    """Does everything for real, keeps the model, and can be cut after any call."""

    def __init__(self, root, cut_after):
        self.root, self.tree, self.open_files = root, Node(folder=True), {}
        self.cut_after, self.count = cut_after, 0
        self._read(root, self.tree)

    def _read(self, path, node):
        for child in path.iterdir():
            inner = Node(child.is_dir())
            if child.is_dir():
                self._read(child, inner)
            else:
                inner.data = child.read_bytes()
            inner.sync()
            node.names[child.name] = inner
        node.sync()

    def _node(self, path):
        node = self.tree
        for part in path.relative_to(self.root).parts:
            node = node.names[part]
        return node

    def _done(self):
        self.count += 1
        if self.count == self.cut_after:
            raise PowerCutError

    def open(self, path, flags):
        fd = super().open(path, flags)
        if flags & os.O_CREAT:
            self._node(path.parent).put(path.name, Node(folder=False))
        self.open_files[fd] = self._node(path)
        self._done()
        return fd

    def write(self, fd, data):
        written = super().write(fd, data)
        self.open_files[fd].data += bytes(data[:written])
        self._done()
        return written

    def fsync(self, fd):
        self.open_files[fd].sync()
        self._done()

    def mkdir(self, path):
        super().mkdir(path)
        self._node(path.parent).put(path.name, Node(folder=True))
        self._done()

    def rename(self, source, target):
        super().rename(source, target)
        folder, node = self._node(source.parent), self._node(source)
        folder.names.pop(source.name)
        folder.names[target.name] = node
        folder.pending.append(((source.name, None), (target.name, node)))
        self._done()

    def unlink(self, path):
        super().unlink(path)
        self._node(path.parent).put(path.name, None)
        self._done()

    def rmdir(self, path):
        super().rmdir(path)
        self._node(path.parent).put(path.name, None)
        self._done()


class PowerCutError(BaseException):
    """Nothing after this moment happens."""


def every_cut(tmp_path, prepare, work, draws):
    """Each disk that a cut during `work` may leave, after what the next start does."""
    chance = random.Random(0)
    for cut_after in range(1, 10_000):
        root = tmp_path / f"root-{cut_after}"
        root.mkdir()
        prepare(root)
        files = Recorder(root, cut_after)
        finished = False
        with using(files), contextlib.suppress(PowerCutError):
            work(root)
            finished = True
        for draw in range(draws):
            disk = tmp_path / f"disk-{cut_after}-{draw}"
            files.tree.after_a_cut(disk, chance)
            clean_stale(disk)
            yield disk, finished
            shutil.rmtree(disk)
        shutil.rmtree(root)
        if finished:
            assert cut_after > 5
            return


def test_a_file_is_the_old_or_the_new_one(tmp_path):
    def prepare(root):
        (root / "a").write_bytes(b"old")

    for disk, finished in every_cut(
        tmp_path, prepare, lambda root: write_atomic(root / "a", b"new" * 100), draws=40
    ):
        content = (disk / "a").read_bytes()
        assert content == b"new" * 100 if finished else content in {b"old", b"new" * 100}


def publish(root, step, replace=False):
    name = "step-000100" if replace else f"step-{step:06d}"
    with DurableFolder(root / name, kind="x", record={"step": step}, replace=True) as folder:
        folder.write("weights", [bytes([step]) * 50, bytes([step]) * 50])
        folder.write("state", str(step))


@pytest.mark.parametrize("replace", [False, True])
def test_a_checkpoint_is_the_old_or_the_new_one(tmp_path, replace):
    def work(root):
        publish(root, 200, replace)
        if not replace:
            remove_folder(root / "step-000100")

    seen = set()
    for disk, finished in every_cut(tmp_path, lambda root: publish(root, 100), work, draws=25):
        found = set()
        for path in disk.iterdir():
            try:
                body = verify_folder(path)
            except CheckpointError:
                continue  # being removed
            found.add(body["record"]["step"])
            assert (path / "weights").read_bytes() == bytes([body["record"]["step"]]) * 100
        assert found, "neither the old nor the new one is on the disk"
        assert 200 in found or not finished
        seen |= found
    assert seen == {100, 200}


def test_new_folders_are_there_when_making_them_has_returned(tmp_path):
    for disk, finished in every_cut(
        tmp_path, lambda root: None, lambda root: make_folders(root / "a" / "b"), draws=20
    ):
        assert (disk / "a" / "b").is_dir() or not finished


def test_the_model_sees_a_missing_sync(tmp_path, monkeypatch):
    """The test of the test: without syncs, half files under final names must be found."""
    monkeypatch.setattr(Recorder, "fsync", lambda self, fd: self._done())
    broken = 0
    for disk, _ in every_cut(tmp_path, lambda root: None, lambda root: publish(root, 7), draws=20):
        folder = Path(disk / "step-000007")
        if folder.exists():
            try:
                verify_folder(folder)
            except CheckpointError:
                broken += 1
    assert broken > 5
