"""What, besides settings and data, decides the last bits of a result."""

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

# What a difference in each of them means for the weights.
_MEANING = {
    "torch": "its kernels may add in another order",
    "threads": "sums are split differently",
    "cpu_capability": "other vector instructions add in another order",
    "machine": "another kind of processor",
    "mkldnn": "another library for matrix products",
    "device": "another kind of device adds in another order",
    "deterministic": "some kernels may add in any order",
}


def environment() -> dict[str, Any]:
    """The facts of this process that a checkpoint records."""
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "mkldnn": torch.backends.mkldnn.is_available(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_initialized() else "cpu",
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def compare_environment(
    saved: Mapping[str, Any], current: Mapping[str, Any] | None = None
) -> list[str]:
    """Why the continued run is no longer bit-identical to one never stopped; empty if it is.

    Args:
        saved: What a checkpoint recorded.
        current: What is now; None for this process as it is.
    """
    now = environment() if current is None else current
    return [
        f"from here the weights may differ in their last bits from a run never stopped: {name} was "
        f"{saved.get(name)}, is {now.get(name)} ({_MEANING.get(name, 'it decides how sums are split')})"
        for name in sorted({*saved, *now})
        if saved.get(name) != now.get(name)
    ]


def restore_environment(saved: Mapping[str, Any]) -> list[str]:
    """Take over the number of threads of the process that saved, and say what still differs.

    Call it before the model is loaded.  More threads than processors are slower, and are said.
    """
    notices = []
    if threads := int(saved.get("threads", 0)):
        torch.set_num_threads(threads)
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        if 0 < available < threads:
            notices.append(
                f"{threads} threads on {available} processors, as the run began: slower, same bits"
            )
    return notices + compare_environment(saved)
