"""Which GPU a run takes, and what CUDA is told before it looks."""

import os

import pytest
import torch

from luthier.recipes.run.devices import free_devices, lease_names
from luthier.runs import device_lease
from luthier.surroundings import SURROUNDINGS, set_surroundings


@pytest.fixture
def three_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("LUTHIER_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.usefixtures("three_gpus")
def test_a_run_takes_a_gpu_that_no_other_run_has():
    assert free_devices(1) == (0,)
    with device_lease("cuda:0"):
        assert free_devices(1) == (1,)
        assert free_devices(2) == (1, 2)
        assert free_devices(3) == (0, 1, 2)  # refused by its lease, with the name of the run
    assert free_devices(1) == (0,)


@pytest.mark.usefixtures("three_gpus")
def test_leases_have_the_names_of_the_machine(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    assert lease_names([1, 2]) == ["cuda:7", "cuda:9"]
    with device_lease("cuda:4"):
        assert free_devices(1) == (1,)


def test_cuda_is_told_its_order_and_its_allocator_before_it_looks(monkeypatch):
    for name in (*SURROUNDINGS, "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    set_surroundings()
    assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"


def test_what_a_user_has_set_stays(monkeypatch):
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:128")
    set_surroundings()
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    assert "PYTORCH_ALLOC_CONF" not in os.environ
