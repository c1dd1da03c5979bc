"""Marks for lists: right on models whose outcome is known, and instant."""

import json
import time

import pytest

from luthier.planner.device import Device
from luthier.planner.marks import fit_marks
from luthier.planner.shape import Shape


@pytest.fixture
def config(shared):
    def read(name):
        return json.loads(shared(f"model_configs/{name}.json").read_text())

    return read


@pytest.mark.parametrize(
    ("model", "device", "marks"),
    [
        ("meta-llama--Llama-2-7b-hf", "T4 16GB", {"full": "no", "lora": "tight", "qlora": "fits"}),
        ("Qwen--Qwen3-8B", "T4 16GB", {"full": "no", "lora": "no", "qlora": "fits"}),
        ("Qwen--Qwen3-8B", "RTX 4090", {"full": "no", "lora": "fits", "qlora": "fits"}),
        ("Qwen--Qwen3-8B", "H200", {"full": "tight", "lora": "fits", "qlora": "fits"}),
        ("Qwen--Qwen3-0.6B", "cpu 24GB", {"full": "fits", "lora": "fits", "qlora": "fits"}),
        ("Qwen--Qwen2.5-72B-Instruct", "H100", {"full": "no", "lora": "no", "qlora": "fits"}),
    ],
)
def test_what_is_known_to_fit_is_said_to_fit(config, model, device, marks):
    found = fit_marks(config(model), Device.parse(device))
    assert {method: mark.mark for method, mark in found.items()} == marks


def test_less_is_held_by_cheaper_methods(config):
    found = fit_marks(config("Qwen--Qwen3-4B"), Device.parse("H100"))
    assert found["qlora"].peak_bytes < found["lora"].peak_bytes < found["full"].peak_bytes


def test_longer_sequences_take_more(config):
    device, shape = Device.parse("H100"), Shape.from_config(config("Qwen--Qwen3-4B"))
    peaks = [fit_marks(shape, device, seq_length=n)["lora"].peak_bytes for n in (256, 1024, 4096)]
    assert peaks == sorted(peaks)


def test_a_list_of_a_hundred_models_is_instant(config):
    device, shape = Device.parse("T4"), Shape.from_config(config("Qwen--Qwen3-4B"))
    started = time.process_time()
    for _ in range(100):
        fit_marks(shape, device)
    assert time.process_time() - started < 1.0
