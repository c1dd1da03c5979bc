"""Devices by name, and this machine."""

import psutil
import pytest

from luthier.errors import DeviceError
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
