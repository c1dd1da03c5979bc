"""What the machine does while a run lives: one JSON object every two seconds in `monitor.jsonl`.

A sample has `time` (seconds since the epoch), `elapsed_s` (monotonic, since the monitor started),
and what could be read; bytes and percent are in the names.  A missing line tells a hung process.
"""

import importlib
import importlib.util
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

from luthier.durable import AppendFile
from luthier.errors import LuthierError

Sample = dict[str, float | int | str]
Source = Callable[[], Sample]
INTERVAL_S = 2.0
_PEAKS = ("_bytes", "_percent", "_celsius")


class Monitor:
    """Samples in a thread of its own while entered; the first sample is taken at once.

    It never ends the run: a source that fails is named in one line and asked again next time, and
    when the file cannot be written, `failure` says why.

    Args:
        path: `monitor.jsonl` of the run; appended to.
        device: What the run computes on; None for the CPU.
        interval_s: Seconds between samples.
        sources: Functions that each give a part of a sample; None for those of this machine.
    """

    def __init__(
        self,
        path: Path,
        *,
        device: torch.device | None = None,
        interval_s: float = INTERVAL_S,
        sources: list[Source] | None = None,
    ) -> None:
        self.path, self.interval_s = path, interval_s
        self.failure: str | None = None
        self._sources = machine_sources(device) if sources is None else sources
        self._peaks: dict[str, float] = {}
        self._told: set[str] = set()
        self._failures: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="monitor", daemon=True)
        self._started = time.monotonic()

    def peaks(self) -> dict[str, float]:
        """The largest value of every measure in bytes, percent and degrees so far."""
        with self._lock:
            return dict(self._peaks)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        try:
            with AppendFile(self.path) as file:
                while True:
                    file.append(json.dumps(self._sample()))
                    for line in self._new_failures():
                        file.append(line)
                    if self._stop.wait(self.interval_s):
                        file.append(json.dumps(self._sample()))
                        return
        except LuthierError as error:  # told by whoever reads `failure`: the run goes on
            self.failure = str(error)

    def _sample(self) -> Sample:
        sample: Sample = {"time": time.time(), "elapsed_s": time.monotonic() - self._started}
        self._failures = []
        for source in self._sources:
            try:
                sample.update(source())
            except Exception as error:  # noqa: BLE001 - drivers raise anything; it is recorded
                self._failures.append(f"{getattr(source, '__name__', 'source')}: {error!r}")
        with self._lock:
            for name, value in sample.items():
                if name.endswith(_PEAKS) and isinstance(value, int | float):
                    self._peaks[name] = max(value, self._peaks.get(name, value))
        return sample

    def _new_failures(self) -> list[str]:
        new = [text for text in self._failures if text not in self._told]
        self._told.update(new)
        return [json.dumps({"time": time.time(), "failed": text}) for text in new]


def machine_sources(device: torch.device | None = None) -> list[Source]:
    """What can be read on this machine for a run on `device`."""
    process = psutil.Process()
    process.cpu_percent(None)  # the first call of each gives 0 and starts the measurement
    psutil.cpu_percent(None)

    def host() -> Sample:
        memory = psutil.virtual_memory()
        return {
            "rss_bytes": process.memory_info().rss,
            "rss_peak_bytes": _peak_rss_bytes(),
            "host_used_bytes": memory.total - memory.available,
            "host_total_bytes": memory.total,
            "process_cpu_percent": process.cpu_percent(None),
            "host_cpu_percent": psutil.cpu_percent(None),
        }

    sources: list[Source] = [host]
    if (folder := _cgroup_folder()) is not None:
        sources.append(_named("cgroup", lambda: _cgroup(folder)))
    if device is not None and device.type == "cuda":
        sources.append(_named("cuda", lambda: _cuda(device)))
        if importlib.util.find_spec("pynvml") is not None:
            sources.append(_nvml_source(device))
    return sources


def _named(name: str, source: Source) -> Source:
    source.__name__ = name  # a failure is reported under it
    return source


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cgroup_folder() -> Path | None:
    """The folder with this process's memory limit, of either version of control groups."""
    try:
        lines = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return None
    groups = {kinds: name for _, kinds, name in (line.split(":", 2) for line in lines)}
    mount = Path("/sys/fs/cgroup")
    # Inside a container the group's own name is not visible, and the mount itself is the group.
    for folder in (
        mount / groups.get("", "/").lstrip("/"),
        mount,
        mount / "memory" / groups.get("memory", "/").lstrip("/"),
        mount / "memory",
    ):
        if any((folder / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            return folder
    return None


def _cgroup(folder: Path) -> Sample:
    names = {
        "memory.max": "cgroup_limit_bytes",
        "memory.limit_in_bytes": "cgroup_limit_bytes",
        "memory.current": "cgroup_used_bytes",
        "memory.usage_in_bytes": "cgroup_used_bytes",
    }
    sample: Sample = {}
    for file, name in names.items():
        if (folder / file).exists():
            text = (folder / file).read_text("ascii").strip()
            if text != "max" and int(text) < 2**60:  # version 1 writes a huge number for no limit
                sample[name] = int(text)
    if (folder / "memory.events").exists():
        for line in (folder / "memory.events").read_text("ascii").splitlines():
            event, count = line.split()
            if event == "oom_kill":
                sample["cgroup_oom_kills"] = int(count)
    return sample


def _cuda(device: torch.device) -> Sample:
    free, total = torch.cuda.mem_get_info(device)
    return {
        "device_allocated_bytes": torch.cuda.memory_allocated(device),
        "device_allocated_peak_bytes": torch.cuda.max_memory_allocated(device),
        "device_reserved_bytes": torch.cuda.memory_reserved(device),
        "device_used_bytes": total - free,
        "device_total_bytes": total,
    }


def _nvml_source(device: torch.device) -> Source:
    handle: list[object] = []

    def nvml() -> Sample:
        library = importlib.import_module("pynvml")
        if not handle:
            library.nvmlInit()
            # By UUID: NVML counts all devices of the machine, torch those that are visible.
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            handle.append(library.nvmlDeviceGetHandleByUUID(uuid.encode()))
        return {
            "device_percent": library.nvmlDeviceGetUtilizationRates(handle[0]).gpu,
            "device_celsius": library.nvmlDeviceGetTemperature(handle[0], 0),
            "device_watts": library.nvmlDeviceGetPowerUsage(handle[0]) / 1000,
        }

    return nvml
