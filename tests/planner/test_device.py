"""Devices by name, and this machine."""

import os
from pathlib import Path

import psutil
import pytest

from luthier.errors import DeviceError
from luthier.planner import device as device_module
from luthier.planner.device import Device, this_machine
from luthier.units import GIB


@pytest.mark.parametrize(
    ("text", "name", "gib", "count", "dtype"),
    [
        ("T4 16GB", "T4", 15, 1, "float16"),
        ("t4", "T4", 15, 1, "float16"),
        ("2x A100 80GB", "A100", 80, 2, "bfloat16"),
        ("A100 40 GB", "A100", 40, 1, "bfloat16"),
        ("NVIDIA A100-SXM4-40GB", "A100", 40, 1, "bfloat16"),
        ("RTX 4090", "RTX 4090", 24, 1, "bfloat16"),
        ("NVIDIA GeForce RTX 3090", "RTX 3090", 24, 1, "bfloat16"),
        ("4 * H100", "H100", 79.6, 4, "bfloat16"),
        ("GPU 12GB", "GPU", 12, 1, "bfloat16"),
        ("V100 32GB", "V100", 32, 1, "float16"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", 48, 1, "bfloat16"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000", 95.6, 1, "bfloat16"),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090 D", 24, 1, "bfloat16"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop", 16, 1, "bfloat16"),
        ("NVIDIA GeForce RTX 3080 Ti", "RTX 3080 Ti", 12, 1, "bfloat16"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX 4070 Ti SUPER", 16, 1, "bfloat16"),
        ("NVIDIA H20", "H20", 95.6, 1, "bfloat16"),
        ("NVIDIA B300 SXM6 AC", "B300", 268.6, 1, "bfloat16"),
        ("Quadro RTX 8000", "Quadro RTX 8000", 48, 1, "float16"),
    ],
)
def test_devices_are_known_by_name(text, name, gib, count, dtype):
    device = Device.parse(text)
    assert device.name.startswith(name)
    assert device.memory_bytes == pytest.approx(gib * GIB, rel=0.01)
    assert (device.kind, device.count, device.dtype) == ("cuda", count, dtype)


def test_a_cpu_has_the_memory_it_is_given():
    device = Device.parse("cpu 24GB")
    assert (device.kind, device.memory_bytes, device.host_memory_bytes) == (
        "cpu",
        24 * GIB,
        24 * GIB,
    )


@pytest.mark.parametrize("text", ["", "abacus", "abacus 9000", "T4 1MB", "0x T4"])
def test_an_unknown_device_is_refused_with_examples(text):
    with pytest.raises(DeviceError) as caught:
        Device.parse(text)
    assert repr(text) in caught.value.what
    assert "T4 16GB" in caught.value.fix


def test_this_machine_is_what_psutil_says():
    device = this_machine()
    assert device.measured
    assert device.host_memory_bytes == psutil.virtual_memory().total
    assert device.memory_bytes > 0
    assert device.disk_free_bytes > 0


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: str, listed: str = "") -> None:
    """A program of that name that prints what the real one does."""
    program = folder / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\nif [ \"$1\" = -L ]; then cat <<'END'\n"
        f"{listed}\nEND\nelse cat <<'END'\n{rows}\nEND\nfi\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    device_module._nvidia.cache_clear()


@pytest.fixture(autouse=True)
def _asked_anew():
    yield
    device_module._nvidia.cache_clear()


def test_a_gpu_that_shares_the_memory_of_the_host_has_the_hosts(tmp_path, monkeypatch):
    smi(tmp_path, monkeypatch, "NVIDIA GB10, [N/A], 12.1, GPU-3b9f")
    device = this_machine()
    assert (device.kind, device.name, device.capability) == ("cuda", "NVIDIA GB10", (12, 1))
    assert device.memory_bytes == psutil.virtual_memory().total


@pytest.mark.parametrize("said", ["No devices were found", "", "NVIDIA-SMI has failed, see above"])
def test_without_a_row_for_a_gpu_the_processor_is_planned_for(tmp_path, monkeypatch, said):
    smi(tmp_path, monkeypatch, said)
    assert this_machine().kind == "cpu"


TWO = "Tesla T4, 15360, 7.5, GPU-aaaa-1\nNVIDIA A100-SXM4-40GB, 40960, 8.0, GPU-bbbb-2"


@pytest.mark.parametrize(
    ("visible", "name"),
    [("0", "T4"), ("1", "A100"), ("1,0", "A100"), ("GPU-bbbb", "A100"), ("GPU-aaaa-1", "T4")],
)
def test_the_gpu_that_is_visible_is_planned_for(tmp_path, monkeypatch, visible, name):
    smi(tmp_path, monkeypatch, TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert name in this_machine().name


def test_a_part_of_a_gpu_has_its_own_memory(tmp_path, monkeypatch):
    listed = """GPU 0: Tesla T4 (UUID: GPU-aaaa-1)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb-2)
  MIG 3g.20gb     Device  0: (UUID: MIG-cccc-3)
  MIG 1g.5gb      Device  1: (UUID: MIG-dddd-4)"""
    smi(tmp_path, monkeypatch, TWO, listed)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-dddd-4")
    device = this_machine()
    assert device.memory_bytes == 5 * GIB
    assert device.capability == (8, 0)
