"""Sample answers at evaluations: there when asked for, and without effect on the training."""

import json

import pytest
from safetensors.numpy import load_file

import luthier
from luthier.errors import EnvironmentVariableError
from luthier.recipes.before.sample_count import VARIABLE


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    turns = [
        {"role": "user", "content": "Say a."},
        {"role": "assistant", "content": "The letter a."},
    ]
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for _ in range(8)))
    return str(path)


def train(data, folder):
    return luthier.train(
        model="starter", dataset=data, eval_split=2, eval_steps=2, max_steps=4, lora_dim=2,
        lora_dropout=0.1, per_device_train_batch_size=2, output_dir=str(folder),
    )  # fmt: skip


def test_a_run_is_the_same_with_and_without_samples(data, tmp_path, monkeypatch):
    plain = train(data, tmp_path / "plain")
    assert not [one for one in plain.events() if one["type"] == "sample"]
    monkeypatch.setenv(VARIABLE, "1")
    run = train(data, tmp_path / "sampled")
    samples = [one for one in run.events() if one["type"] == "sample"]
    assert [one["step"] for one in samples] == [0, 2, 4]
    assert samples[0]["expected"] == "The letter a."
    assert samples[0]["prompt"].endswith("assistant")
    assert "Say a." in samples[0]["prompt"]
    assert len({one["answer"] for one in samples}) >= 1
    ours, theirs = (load_file(one.result / "adapter_model.safetensors") for one in (plain, run))
    for name, values in ours.items():
        assert (values == theirs[name]).all(), name


def test_junk_is_refused_before_any_work(data, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "many")
    with pytest.raises(EnvironmentVariableError, match="LUTHIER_SAMPLES='many'"):
        train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
