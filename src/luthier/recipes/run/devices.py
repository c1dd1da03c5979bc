"""The devices of this machine as torch sees them: which are there, and whose they are."""

import os
from collections.abc import Sequence

import torch

from luthier.errors import DeviceError
from luthier.locks import read_owner
from luthier.planner.device import Device, this_gpu, this_processor
from luthier.runs import lease_file
from luthier.surroundings import set_surroundings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_device(rank: int = 0) -> torch.device:
    """The CUDA device of this number among those that are visible, else the processor.

    Raises:
        DeviceError: There are GPUs, and fewer.
    """
    set_surroundings()  # here too: who uses luthier as a library has come past no command
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if rank >= torch.cuda.device_count():
        raise DeviceError(
            f"devices asks for GPU {rank}, this machine has {torch.cuda.device_count()}",
            why="each training process needs a GPU of its own",
            fix=f"--devices {torch.cuda.device_count()}",
        )
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def facts_of(device: torch.device, count: int = 1) -> Device:
    """What the planner knows a device of this machine as.

    Args:
        count: Devices that train together.
    """
    if device.type != "cuda":
        return this_processor(count)
    seen = torch.cuda.get_device_properties(device)
    return this_gpu(seen.name, seen.total_memory, (seen.major, seen.minor), count=count)


def free_devices(count: int) -> tuple[int, ...]:
    """Numbers of the GPUs that a run of `count` processes takes: those that no run has, first."""
    if not torch.cuda.is_available():
        return tuple(range(count))
    every = range(torch.cuda.device_count())
    return tuple(sorted(sorted(every, key=_is_taken)[:count]))


def _is_taken(number: int) -> bool:
    owner = read_owner(lease_file(*lease_names([number])))
    return owner is not None and owner.alive


def lease_names(devices: Sequence[int]) -> list[str]:
    """How the leases of devices are called.

    GPUs are named as the machine counts them, whatever `CUDA_VISIBLE_DEVICES` shows of them; the
    processor is one device, however many processes share it.
    """
    if not torch.cuda.is_available():
        return ["cpu"]
    shown = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return [f"cuda:{shown[n] if n < len(shown) and shown[n] else n}" for n in devices]


def check_devices(wanted: int) -> None:
    """Refuse more training processes than this machine has devices for, before any is started.

    Raises:
        DeviceError: Fewer GPUs, or, without a GPU, fewer processor cores; two always may share one.
    """
    cuda = torch.cuda.is_available()
    there = torch.cuda.device_count() if cuda else max(2, os.cpu_count() or 1)
    if wanted > there:
        raise DeviceError(
            f"devices: {wanted} on a machine with {there} {'GPUs' if cuda else 'processor cores'}",
            why="each training process needs one of its own",
            fix=f"--devices {there}",
        )
