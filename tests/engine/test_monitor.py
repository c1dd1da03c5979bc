"""The monitor watches, and never ends the run."""

import json
import os
import time

import pytest
import torch
from tests.faults import FaultyFiles

from luthier.durable import using
from luthier.engine import monitor
from luthier.engine.monitor import Monitor, machine_sources


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_sample_comes_at_once_and_the_last_at_the_end(tmp_path):
    path = tmp_path / "monitor.jsonl"
    with Monitor(path) as watching:  # two seconds: no second sample before the end
        wait_for(lambda: path.exists() and path.read_text().endswith("\n"))
    first, last = lines(path)
    assert first["time"] == pytest.approx(time.time(), abs=60)
    assert 0 <= first["elapsed_s"] <= last["elapsed_s"]
    assert 10 * 2**20 < first["rss_bytes"] < first["host_total_bytes"]
    assert first["host_used_bytes"] <= first["host_total_bytes"]
    assert 0 <= last["host_cpu_percent"] <= 100
    assert watching.failure is None
    assert watching.peaks()["rss_peak_bytes"] >= first["rss_bytes"] * 0.9


def test_peaks_are_the_largest_of_each_measure(tmp_path):
    values = iter([3, 9, 5])

    def source():
        return {"device_used_bytes": next(values, 4), "name": "x", "count": 7}

    with Monitor(tmp_path / "m", interval_s=0.01, sources=[source]) as watching:
        wait_for(watching.path.exists)
        wait_for(lambda: len(watching.path.read_text().splitlines()) > 4)
    assert watching.peaks() == {"device_used_bytes": 9}


def test_a_source_that_fails_is_named_once_and_the_others_go_on(tmp_path):
    calls = []

    def broken():
        calls.append(1)
        raise RuntimeError("driver lost")

    with Monitor(tmp_path / "m", interval_s=0.01, sources=[broken, lambda: {"a": 1}]):
        wait_for(lambda: len(calls) > 5)
    told = lines(tmp_path / "m")
    assert [line["failed"] for line in told if "failed" in line] == [
        "broken: RuntimeError('driver lost')"
    ]
    assert sum(line.get("a", 0) for line in told) == len(calls)


def test_a_full_disk_is_kept_as_the_reason_and_ends_nothing(tmp_path):
    with using(FaultyFiles(3, "forever")):
        watching = Monitor(tmp_path / "m", interval_s=0.01, sources=[lambda: {"a": 1}])
        watching._thread.run()  # here, where the faults are
    assert "disk full" in watching.failure
    first, torn = (tmp_path / "m").read_text().split("\n")
    assert json.loads(first)["a"] == 1
    assert torn.startswith('{"time"')


def test_limits_of_both_versions_of_control_groups_are_read(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("123\n")
    (tmp_path / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    assert monitor._cgroup(tmp_path) == {"cgroup_used_bytes": 123, "cgroup_oom_kills": 1}
    (tmp_path / "memory.max").write_text("4096\n")
    assert monitor._cgroup(tmp_path)["cgroup_limit_bytes"] == 4096
    old = tmp_path / "v1"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (old / "memory.usage_in_bytes").write_text("5\n")
    assert monitor._cgroup(old) == {"cgroup_used_bytes": 5}


def test_watching_costs_little():
    (host, *_) = machine_sources()
    started = time.process_time()
    for _ in range(20):
        host()
    assert (time.process_time() - started) / 20 < 0.02, "per sample, every two seconds"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_memory_is_watched(tmp_path):
    device = torch.device("cuda", 0)
    with Monitor(tmp_path / "m", device=device, interval_s=0.1) as watching:
        held = torch.zeros(2**26, device=device)
        wait_for(lambda: watching.peaks().get("device_allocated_bytes", 0) >= held.nbytes)
    assert watching.peaks()["device_used_bytes"] >= held.nbytes
    assert not [line for line in lines(tmp_path / "m") if "failed" in line], os.environ
