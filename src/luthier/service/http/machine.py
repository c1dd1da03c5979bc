"""What this machine has and what it is doing: devices, memory, disk, queue.  No torch."""

import importlib
import importlib.util
import shutil
import threading
import time

import psutil

from luthier import children
from luthier.service.http.page_schemas import DeviceView, MachineView
from luthier.service.http.parts import Parts
from luthier.service.states import ACTIVE

_QUERY = "index,name,uuid,memory.total,memory.used,utilization.gpu,temperature.gpu,power.draw"
_MIB = 2**20
FRESH_S = 1.0


class _Devices:
    """What was read last, so that many watchers ask the driver once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: list[DeviceView] = []
        self._moment = 0.0

    def read(self) -> list[DeviceView]:
        """Every GPU of the machine, or the processor where there is none."""
        with self._lock:
            if not self._read or time.monotonic() - self._moment > FRESH_S:
                self._read = _gpus() or [_processor()]
                self._moment = time.monotonic()
            return [one.copy() for one in self._read]


_DEVICES = _Devices()


def machine(found: Parts) -> MachineView:
    """The body of `/api/machine`."""
    counts = found.jobs.table.counts()
    holders = {device: job.id for job in found.jobs.table.active() for device in job.devices}
    devices = _DEVICES.read()
    for device in devices:
        device["held_by"] = holders.get(device["id"])
        if device["held_by"] is None and found.chats.holds_device and device is devices[0]:
            device["held_by"] = "chat"
    memory, disk = psutil.virtual_memory(), shutil.disk_usage(found.home)
    return {
        "devices": devices,
        "host": {
            "memory_bytes": memory.total,
            "used_bytes": memory.total - memory.available,
            "cpu_percent": psutil.cpu_percent(None),
            "cores": psutil.cpu_count() or 1,
        },
        "disk": {"free_bytes": disk.free, "total_bytes": disk.total, "path": str(found.home)},
        "queue": {
            "running": sum(counts.get(state, 0) for state in ACTIVE),
            "waiting": counts.get("queued", 0) + counts.get("created", 0),
        },
    }


def _processor() -> DeviceView:
    memory = psutil.virtual_memory()
    return {
        "id": "cpu",
        "name": f"CPU, {psutil.cpu_count(logical=False) or psutil.cpu_count() or 1} cores",
        "kind": "cpu",
        "memory_bytes": memory.total,
        "used_bytes": memory.total - memory.available,
        "utilisation": psutil.cpu_percent(None),
        "celsius": None,
        "watts": None,
    }


def _gpus() -> list[DeviceView]:
    if importlib.util.find_spec("pynvml") is not None:
        return _from_nvml()
    query = (f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits")
    said = children.ask_program("nvidia-smi", *query, timeout_s=5) or ""
    return [_from_line(line) for line in said.splitlines() if line.count(",") == 7]


def _from_line(line: str) -> DeviceView:
    index, name, _, total, used, percent, celsius, watts = (
        part.strip() for part in line.split(",")
    )
    return {
        "id": f"cuda:{index}",
        "name": name,
        "kind": "cuda",
        "memory_bytes": int((_number(total) or 0) * _MIB),
        "used_bytes": int((_number(used) or 0) * _MIB),
        "utilisation": _number(percent),
        "celsius": _number(celsius),
        "watts": _number(watts),
    }


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A] and [Not Supported]
        return None


def _from_nvml() -> list[DeviceView]:
    library = importlib.import_module("pynvml")
    try:
        library.nvmlInit()
    except library.NVMLError:
        return []
    found: list[DeviceView] = []
    for index in range(library.nvmlDeviceGetCount()):
        handle = library.nvmlDeviceGetHandleByIndex(index)
        memory = library.nvmlDeviceGetMemoryInfo(handle)
        name = library.nvmlDeviceGetName(handle)

        def ask(question: str, *more: object, of: object = handle) -> float | None:
            try:
                answer = getattr(library, question)(of, *more)
            except library.NVMLError:
                return None
            return float(getattr(answer, "gpu", answer))

        watts = ask("nvmlDeviceGetPowerUsage")
        found.append(
            {
                "id": f"cuda:{index}",
                "name": name.decode() if isinstance(name, bytes) else str(name),
                "kind": "cuda",
                "memory_bytes": int(memory.total),
                "used_bytes": int(memory.used),
                "utilisation": ask("nvmlDeviceGetUtilizationRates"),
                "celsius": ask("nvmlDeviceGetTemperature", 0),
                "watts": watts / 1000 if watts is not None else None,
            }
        )
    return found
