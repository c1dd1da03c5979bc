"""Defaults that depend on method, objective and data."""

import itertools

import pytest

from luthier.config.defaults import (
    learning_rate_default,
    lora_alpha_default,
    num_train_epochs_default,
    per_device_batch_default,
)


@pytest.mark.parametrize(
    ("method", "objective", "rate"),
    [
        ("lora", "sft", 2e-4),
        ("qlora", "sft", 2e-4),
        ("full", "sft", 2e-5),
        ("lora", "dpo", 5e-6),
        ("full", "dpo", 1e-6),
        ("lora", "text", 2e-4),
        ("full", "text", 2e-5),
    ],
)
def test_learning_rate_by_method_and_objective(method, objective, rate):
    assert learning_rate_default(method, objective)[0] == rate


def test_learning_rate_by_size_and_start():
    assert learning_rate_default("lora", "sft", num_params=70_000_000_000)[0] == 1e-4
    assert learning_rate_default("full", "sft", num_params=70_000_000_000)[0] == 1e-5
    assert learning_rate_default("lora", "dpo", num_params=100_000_000)[0] == 2e-5
    assert learning_rate_default("full", "text", from_scratch=True)[0] == 1e-3


def test_every_default_has_a_reason():
    for method, objective in itertools.product(("lora", "qlora", "full"), ("sft", "dpo", "text")):
        assert learning_rate_default(method, objective)[1]
        assert num_train_epochs_default(objective)[1]
    assert lora_alpha_default(16) == (16.0, lora_alpha_default(16)[1])


@pytest.mark.parametrize(
    ("objective", "samples", "accumulation", "devices", "batch"),
    [
        ("sft", 10_000, 1, 1, 16),
        ("dpo", 10_000, 1, 1, 8),
        ("sft", 10_000, 4, 2, 2),
        ("sft", 10_000, 64, 1, 1),
        ("sft", 80, 1, 1, 8),
        ("dpo", 3, 1, 1, 1),
        ("sft", 1, 1, 1, 1),
    ],
)
def test_batch_by_objective_and_amount_of_data(objective, samples, accumulation, devices, batch):
    found, reason = per_device_batch_default(
        objective, num_samples=samples, accumulation=accumulation, devices=devices
    )
    assert found == batch
    assert reason
