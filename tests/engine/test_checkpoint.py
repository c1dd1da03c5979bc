"""Checkpoints: complete or absent, verified, rotated without ever losing what is needed."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from tests.faults import FastFiles, Killed, every_fault, leftovers

from luthier.durable import MANIFEST, FileSystem, NewerFormatError, clean_stale, using
from luthier.durable.folder import _sealed
from luthier.engine.checkpoint import (
    check_fingerprints,
    check_tensors,
    checkpoint_name,
    list_checkpoints,
    load_checkpoint,
    load_latest,
    save_checkpoint,
)
from luthier.engine.environment import compare_environment, environment, restore_environment
from luthier.errors import CheckpointError, DiskFullError, LuthierError, NonFiniteError, ResumeError

FINGERPRINTS = {"data": "d1", "template": "t1", "settings": "s1", "base": "b1"}
FILES = ["weights.safetensors", "optimizer.safetensors", "state.json", MANIFEST]


def groups(step):
    return {
        "weights": {"a": torch.full((3, 4), float(step)), "b": torch.arange(step, step + 5)},
        "optimizer": {"exp_avg": torch.full((12,), step / 7, dtype=torch.bfloat16)},
    }


def put(folder, step, **more):
    return save_checkpoint(
        folder,
        step=step,
        tensors=groups(step),
        state={"best": step, "history": [0.5, None]},
        fingerprints=FINGERPRINTS,
        **more,
    )


def intact(loaded):
    """Whether all of a checkpoint belongs to its step."""
    same = all(
        torch.equal(loaded.tensors[stem][name], tensor)
        for stem, group in groups(loaded.step).items()
        for name, tensor in group.items()
    )
    return same and loaded.state["best"] == loaded.step


def test_what_is_saved_is_loaded_whatever_its_dtype_and_shape(tmp_path):
    dtypes = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32]
    dtypes += [torch.int16, torch.int8, torch.uint8, torch.bool, torch.uint16, torch.uint32]
    shapes = [(), (0, 3), (1,), (5,), (3, 4, 2)]
    group = {
        f"{dtype}{shape}": torch.randint(0, 2, shape).to(dtype)
        for dtype in dtypes
        for shape in shapes
    }
    group["transposed"] = torch.randn(4, 6).T
    group["slice"] = torch.randn(9)[2:7:2]
    tensors = {"weights": group, "empty": {}}
    info = save_checkpoint(tmp_path, step=7, tensors=tensors, state={}, fingerprints={})
    loaded = load_latest(tmp_path)
    assert loaded.step == 7
    assert loaded.path == info.path == tmp_path / "step-000007"
    assert info.bytes == sum(path.stat().st_size for path in info.path.iterdir()) - (
        (info.path / MANIFEST).stat().st_size
    )
    assert loaded.tensors["empty"] == {}
    for name, tensor in group.items():
        found = loaded.tensors["weights"][name]
        assert found.dtype == tensor.dtype
        assert found.shape == tensor.shape
        assert torch.equal(found, tensor)


def test_the_files_are_a_function_of_the_state_and_plain_safetensors(tmp_path):
    first = put(tmp_path / "a", 200).path
    second = put(tmp_path / "b", 200).path
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    found = load_file(first / "weights.safetensors")
    assert save(found) == save(groups(200)["weights"])
    shuffled = dict(reversed(groups(200)["weights"].items()))
    save_checkpoint(tmp_path / "c", step=1, tensors={"w": shuffled}, state={}, fingerprints={})
    assert (tmp_path / "c/step-000001/w.safetensors").read_bytes() == (
        first / "weights.safetensors"
    ).read_bytes()


def test_nothing_saved_is_none(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "absent") is None


@pytest.mark.parametrize("scene", ["next", "keep 1", "same step"])
def test_a_fault_at_any_operation_leaves_a_loadable_checkpoint(tmp_path, scene):
    points = 0
    for files in every_fault():
        folder = tmp_path / f"{files.mode}-{files.fail_at}"
        with using(FastFiles()):
            put(folder, 100)
            put(folder, 200)
        step = 200 if scene == "same step" else 300
        failed = None
        try:
            with using(files):
                put(folder, step, keep=1 if scene == "keep 1" else 2)
        except (LuthierError, Killed) as error:
            failed = error
        points += files.fired
        assert failed is None or files.fired
        if isinstance(failed, LuthierError):
            assert isinstance(failed, DiskFullError)
            assert failed.what.startswith(f"disk full: {folder}")
        clean_stale(folder)
        assert leftovers(folder) == []
        loaded = load_latest(folder)
        assert intact(loaded)
        assert loaded.skipped == []
        assert loaded.step == step if failed is None else loaded.step in {200, step}
        shutil.rmtree(folder)
    assert points > 60, "too few points to mean anything"


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning_not_the_end(tmp_path):
    class Stubborn(FastFiles):
        def rename(self, source, target):
            if source.name == "step-000100":
                raise PermissionError(errno.EACCES, "no")
            super().rename(source, target)

    put(tmp_path, 100)
    put(tmp_path, 200)
    with using(Stubborn()):
        info = put(tmp_path, 300, keep=1)
    assert info.removed == ("step-000200",)
    assert "step-000100" in info.warnings[0]
    assert load_latest(tmp_path).step == 300


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["delete", "empty", "half", "minus one", "flip", "older"])
def test_damage_to_the_newest_is_named_and_the_one_before_is_used(tmp_path, name, damage):
    put(tmp_path, 100)
    path = put(tmp_path, 200).path / name
    content = path.read_bytes()
    broken = {
        "empty": [b""],
        "half": [content[: len(content) // 2]],
        "minus one": [content[:-1]],
        "older": [(tmp_path / "step-000100" / name).read_bytes()],
        "delete": [None],
        "flip": [
            content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
            for at in range(0, len(content), max(1, len(content) // 17))
        ],
    }[damage]
    for bad in broken:
        if bad is None:
            path.unlink()
        else:
            path.write_bytes(bad)
        loaded = load_latest(tmp_path)
        assert loaded.step == 100
        assert intact(loaded)
        assert len(loaded.skipped) == 1
        assert "step-000200" in loaded.skipped[0]


def test_swapped_files_are_seen(tmp_path):
    put(tmp_path, 100)
    folder = put(tmp_path, 200).path
    (folder / FILES[0]).rename(folder / "x")
    (folder / FILES[1]).rename(folder / FILES[0])
    (folder / "x").rename(folder / FILES[1])
    assert load_latest(tmp_path).step == 100


def test_a_folder_under_the_name_of_another_step_is_seen(tmp_path):
    put(tmp_path, 100)
    shutil.copytree(tmp_path / "step-000100", tmp_path / "step-000300")
    loaded = load_latest(tmp_path)
    assert loaded.step == 100
    assert "step-000300 is the checkpoint of step 100" in loaded.skipped[0]


def test_when_all_are_damaged_the_run_does_not_start_over(tmp_path):
    for step in (100, 200):
        (put(tmp_path, step).path / "state.json").unlink()
    with pytest.raises(CheckpointError, match=r"step-000200.*step-000100"):
        load_latest(tmp_path)


def test_a_newer_format_is_refused_not_skipped(tmp_path):
    put(tmp_path, 100)
    manifest = put(tmp_path, 200).path / MANIFEST
    manifest.write_bytes(_sealed({**json.loads(manifest.read_bytes()), "format": 2}))
    with pytest.raises(NewerFormatError, match="format 2"):
        load_latest(tmp_path)


def test_a_hand_edited_manifest_is_not_used(tmp_path):
    put(tmp_path, 100)
    manifest = put(tmp_path, 200).path / MANIFEST
    manifest.write_text(manifest.read_text().replace('"d1"', '"d2"'))
    loaded = load_latest(tmp_path)
    assert loaded.step == 100
    assert "edited" in loaded.skipped[0]
    with pytest.raises(CheckpointError, match="edited"):
        load_checkpoint(tmp_path / "step-000200")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_what_is_not_a_number_is_never_saved(tmp_path, bad, dtype):
    tensor = torch.zeros(4, 5, dtype=dtype)
    tensor[2, 3] = bad
    with pytest.raises(NonFiniteError, match=r"step 3: 1 tensor.*w/a"):
        save_checkpoint(
            tmp_path / "c", step=3, tensors={"w": {"a": tensor}}, state={}, fingerprints={}
        )
    assert not (tmp_path / "c").exists()


def test_large_finite_numbers_are_saved(tmp_path):
    tensor = torch.full((100,), 65000, dtype=torch.float16)
    save_checkpoint(tmp_path, step=3, tensors={"w": {"a": tensor}}, state={}, fingerprints={})


operations = st.lists(
    st.tuples(
        st.integers(1, 3),  # steps forward
        st.booleans(),  # this one is the best now
        st.sampled_from([None, None, None, "resume", "damage and resume"]),
        st.sampled_from([1, 1, 2, 3, None]),  # save_total_limit
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations=operations)
def test_rotation_never_removes_the_best_the_newest_or_the_one_resumed_from(
    tmp_path_factory, operations
):
    folder = tmp_path_factory.mktemp("rotation")
    step = 0
    best = origin = None
    with using(FastFiles()):
        for forward, is_best, then, keep in operations:
            step += forward
            best = step if is_best else best
            there = {number for number, _ in list_checkpoints(folder)}
            protect = {number for number in (best, origin) if number is not None}
            put(folder, step, keep=keep, protect=protect)
            now = {number for number, _ in list_checkpoints(folder)}
            assert step in now
            assert protect & (there | {step}) <= now
            if keep is None:
                assert now == there | {step}
            else:
                assert len(now) <= max(keep, len((protect & now) | {step}))
            if then == "damage and resume" and len(now) > 1:
                (folder / checkpoint_name(step) / "state.json").unlink()
            if then is not None:
                loaded = load_latest(folder)
                step = origin = loaded.step
                best = best if best is not None and best <= step else None
            assert intact(load_latest(folder))


KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from luthier.durable import clean_stale
from luthier.engine.checkpoint import load_latest, save_checkpoint

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
random.seed(0)
step, inside = 0, 0
for kill in range(kills):
    child = os.fork()
    if child == 0:
        while True:
            step += 1
            tensors = {"w": {str(n): torch.full((20_000,), float(step)) for n in range(5)}}
            save_checkpoint(folder, step=step, tensors=tensors, state={"step": step},
                            fingerprints={}, keep=1)
    before = step
    time.sleep(random.uniform(0.05, 0.25))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    inside += any(".luthier-" in path.name for path in folder.iterdir())
    clean_stale(folder)
    loaded = load_latest(folder)
    assert not loaded.skipped, loaded.skipped
    assert loaded.step >= before, "a durable checkpoint was lost"
    assert all(bool((t == loaded.step).all()) for t in loaded.tensors["w"].values())
    assert loaded.state["step"] == loaded.step
    assert not any(".luthier-" in path.name for path in folder.iterdir())
    step = loaded.step
print(f"{kills} kills, {inside} inside a save, step {step}")
"""


def test_a_kill_at_a_random_instant_leaves_a_loadable_checkpoint(tmp_path):
    with using(FastFiles()):
        save_checkpoint(
            tmp_path,
            step=0,
            tensors={"w": {"0": torch.zeros(3)}},
            state={"step": 0},
            fingerprints={},
        )
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), "12"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kills, inside = (int(word) for word in done.stdout.split()[::2][:2])
    assert kills == 12
    assert inside >= 3, done.stdout


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("a tmpfs cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full_at_any_size(small_disk):
    class Hopeful(FileSystem):
        """Says there is room, so that the disk is full in the middle of the writing."""

        def free_bytes(self, path):
            return 2**40

    folder, filler = small_disk / "checkpoints", small_disk / "filler"
    with using(Hopeful()):
        put(folder, 100)
    with pytest.raises(DiskFullError, match="is free"):
        put(folder, 200)  # the check before: it wants a megabyte of room for comfort
    failures = []
    for pages in range(12):
        filler.write_bytes(b"x" * (shutil.disk_usage(small_disk).free - 4096 * pages))
        try:
            with using(Hopeful()):
                put(folder, 200)
        except DiskFullError as error:
            failures.append(error.what)
        assert leftovers(folder) == []
        loaded = load_latest(folder)
        assert intact(loaded)
        assert loaded.skipped == []
        filler.unlink()
    assert 2 <= len(failures) <= 11
    assert all(str(folder) in what for what in failures)
    assert load_latest(folder).step == 200


def test_every_change_is_listed_with_both_values():
    now = {**FINGERPRINTS, "data": "d2", "template": "t2", "adapter": "a1"}
    del now["base"]
    with pytest.raises(ResumeError) as caught:
        check_fingerprints(FINGERPRINTS, now, may_change={"template"})
    for text in ("data was d1, is d2", "adapter was not there, is a1", "base was b1, is not there"):
        assert text in caught.value.what
    assert "template" not in caught.value.what
    allowed = check_fingerprints(
        FINGERPRINTS, {**FINGERPRINTS, "settings": "s2"}, may_change={"settings"}
    )
    assert allowed == ["settings was s1, is s2"]
    assert check_fingerprints(FINGERPRINTS, FINGERPRINTS) == []


def test_tensors_that_do_not_fit_are_listed(tmp_path):
    put(tmp_path, 100)
    loaded = load_latest(tmp_path)
    check_tensors(loaded, "weights", groups(5)["weights"])
    expected = {"a": torch.zeros(3, 5), "c": torch.zeros(1)}
    with pytest.raises(ResumeError) as caught:
        check_tensors(loaded, "weights", expected)
    for text in ("c is missing", "b is not expected", "a was F32[3, 4], is F32[3, 5]"):
        assert text in caught.value.what


def test_threads_are_restored_and_every_other_difference_is_said():
    threads = torch.get_num_threads()
    try:
        saved = {**environment(), "threads": 1}
        assert compare_environment(environment()) == []
        assert restore_environment(saved) == []
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    notices = compare_environment({**environment(), "torch": "1.0", "cpu_capability": "NONE"})
    assert len(notices) == 2
    assert "torch was 1.0" in notices[1]
    assert all("last bits" in text for text in notices)


def test_paths_of_a_run_are_not_part_of_a_checkpoint(tmp_path):
    """So that a copied run goes on elsewhere."""
    info = put(tmp_path, 100)
    for path in info.path.iterdir():
        assert str(tmp_path).encode() not in Path(path).read_bytes()
