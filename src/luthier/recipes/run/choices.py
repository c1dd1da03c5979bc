"""Every value that was left open, decided from the data and the machine, with its reason."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from luthier.config.read import Resolved
from luthier.errors import DeviceError
from luthier.kernels.cpu import bf16_matmul_is_fast
from luthier.locks import read_owner
from luthier.planner import device as planner_device
from luthier.planner.choose import Chooser, open_values
from luthier.planner.device import Device
from luthier.runs import lease_file
from luthier.surroundings import set_surroundings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Machine:
    """The device of this process."""

    device: torch.device
    name: str
    total_bytes: int

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def as_device(self, count: int = 1) -> Device:
        """What the planner knows it as.

        Args:
            count: Devices that train together.
        """
        here = planner_device.this_machine(count)
        capability = torch.cuda.get_device_capability(self.device) if self.cuda else None
        return dataclasses.replace(
            here,
            name=self.name,
            kind="cuda" if self.cuda else "cpu",
            memory_bytes=self.total_bytes,
            capability=capability,
            bf16=capability >= (8, 0) if capability else bf16_matmul_is_fast(),
        )


def this_machine(rank: int = 0) -> Machine:
    """The CUDA device of this number among those that are visible, else the processor."""
    set_surroundings()  # here too: who uses luthier as a library has come past no command
    if torch.cuda.is_available():
        if rank >= torch.cuda.device_count():
            raise DeviceError(
                f"devices asks for GPU {rank}, this machine has {torch.cuda.device_count()}",
                why="each training process needs a GPU of its own",
                fix=f"--devices {torch.cuda.device_count()}",
            )
        torch.cuda.set_device(rank)
        facts = torch.cuda.get_device_properties(rank)
        return Machine(torch.device("cuda", rank), facts.name, facts.total_memory)
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return Machine(torch.device("cpu"), f"CPU, {cores} cores", psutil.virtual_memory().total)


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


def choose_dtype(wanted: str, machine: Machine) -> tuple[str, str]:
    """`torch_dtype` as a name, and why.

    Raises:
        DeviceError: bfloat16 on a GPU that has none.
    """
    if machine.cuda:
        modern = torch.cuda.get_device_capability(machine.device) >= (8, 0)
        if wanted == "bfloat16" and not modern:
            raise DeviceError(
                f"torch_dtype: bfloat16 on {machine.name}",
                why="bfloat16 needs compute capability 8.0 or newer",
                fix="--torch_dtype float16",
            )
        if wanted == "auto":
            return (
                ("bfloat16", f"{machine.name} has it")
                if modern
                else ("float16", f"{machine.name} has no bfloat16")
            )
    elif wanted == "auto":
        if bf16_matmul_is_fast():
            return "bfloat16", "this processor has bfloat16 instructions"
        return "float32", "this processor has no bfloat16 instructions"
    return wanted, "given"


def choose_for_data(resolved: Resolved, *, num_samples: int, num_params: int) -> Resolved:
    """Learning rate, epochs, batch and alpha: what memory has no say in."""
    chosen = open_values(resolved.settings, num_samples, num_params)
    return resolved.fill(**chosen) if chosen else resolved


def choose_for_memory(
    resolved: Resolved, chooser: Chooser, *, longest_sample: int, packable: bool
) -> Resolved:
    """Recomputation and tokens at once.

    Args:
        chooser: Memory of this model and method on this device.
        longest_sample: Tokens of the largest sample that has to be computed at once.
        packable: Whether several sequences may share a row.
    """
    settings = resolved.settings
    chosen: dict[str, tuple[object, str]] = {}
    recompute = settings.gradient_checkpointing == "full"
    if settings.gradient_checkpointing == "auto":
        recompute, why = chooser.recompute(longest_sample)
        chosen["gradient_checkpointing"] = ("full" if recompute else "none", why)
    if settings.micro_batch_tokens == "auto":
        chosen["micro_batch_tokens"] = chooser.tokens(longest_sample, recompute=recompute)
    if settings.share_prefixes == "auto":
        if not packable:
            chosen["share_prefixes"] = (False, "this architecture runs one sequence at a time")
        elif settings.lora_dropout > 0:
            chosen["share_prefixes"] = (False, "shared tokens would share a dropout mask")
        else:
            chosen["share_prefixes"] = (True, "what several sequences begin with is computed once")
    return resolved.fill(**chosen) if chosen else resolved
