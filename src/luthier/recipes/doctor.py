"""What this machine has to train with, looked up and never guessed."""

import importlib.util
import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import torch

from luthier.kernels.cpu import bf16_matmul_is_fast
from luthier.planner.history import machine_file
from luthier.recipes.run.devices import torch_device
from luthier.recipes.speed import time_products
from luthier.runs import home
from luthier.units import format_bytes

CORE = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "bitsandbytes",
    "pydantic",
    "typer",
    "rich",
    "PyYAML",
    "jinja2",
    "psutil",
    "numpy",
)
EXTRAS = {"gpu": "pynvml", "parquet": "pyarrow", "hub": "huggingface_hub"}
"""Extra to the module whose presence says that it is installed."""

OLDEST_CAPABILITY = (7, 0)
BF16_CAPABILITY = (8, 0)


def examine() -> dict[str, object]:
    """Machine, devices, libraries and what is missing, each with the command that mends it.

    Returns:
        Plain nested values; `missing` is empty where luthier can work.
    """
    missing = {name: f'pip install "{_wanted(name)}"' for name in CORE if _version(name) is None}
    return {
        "luthier": _version("luthier"),
        "python": f"{platform.python_version()} at {sys.executable}",
        "system": platform.platform(),
        "processor": _processor(),
        "memory": _memory(),
        "disk": _disk(),
        "devices": _devices(),
        "speed": _speed(),
        "libraries": {name: _version(name) for name in CORE},
        "extras": {
            extra: "installed" if _present(module) else f'pip install "luthier[{extra}]"'
            for extra, module in EXTRAS.items()
        },
        "missing": missing,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _wanted(name: str) -> str:
    found = [line for line in requires("luthier") or () if line.lower().startswith(name.lower())]
    return found[0] if found else name


def _present(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _processor() -> dict[str, object]:
    return {
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads of torch": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": "yes"
        if bf16_matmul_is_fast()
        else "no; torch_dtype: auto is float32 on this processor",
    }


def _speed() -> str:
    """Timed anew, and kept: `luthier plan` tells the time of a run by it."""
    name, flops = time_products(torch_device())
    return f"{flops / 1e9:,.0f} GFLOP/s in {name} products; {machine_file()} keeps it"


def _memory() -> dict[str, str]:
    memory = psutil.virtual_memory()
    return {"total": format_bytes(memory.total), "available": format_bytes(memory.available)}


def _disk() -> dict[str, str]:
    places = {"here": Path.cwd(), "LUTHIER_HOME": home()}
    return {
        name: f"{format_bytes(shutil.disk_usage(_existing(path)).free)} free, {path}"
        for name, path in places.items()
    }


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _devices() -> dict[str, str]:
    if not torch.cuda.is_available():
        reason = (
            "this build of torch has no CUDA: pip install torch, from https://pytorch.org"
            if torch.version.cuda is None
            else "torch finds no CUDA device: nvidia-smi says whether the driver does"
        )
        return {"cpu": "used for training", "cuda": reason}
    found = {}
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        capability = (about.major, about.minor)
        dtype = "bfloat16" if capability >= BF16_CAPABILITY else "float16"
        note = dtype if capability >= OLDEST_CAPABILITY else "older than compute capability 7.0"
        found[f"cuda:{index}"] = (
            f"{about.name}, {format_bytes(about.total_memory)}, "
            f"compute capability {about.major}.{about.minor}, {note}"
        )
    return found
