"""Sample answers at evaluations: there when asked for, and without effect on the training."""

import json

import pytest
from safetensors.numpy import load_file

import luthier
from luthier.config import read
from luthier.config.launch_file import NOTHING, Launch, Wishes
from luthier.recipes.run import train as recipe


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    turns = [
        {"role": "user", "content": "Say a."},
        {"role": "assistant", "content": "The letter a."},
    ]
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for _ in range(8)))
    return str(path)


def train(data, folder, wishes=NOTHING):
    given = read.load(arguments={
        "model": "starter", "dataset": data, "eval_split": 2, "eval_steps": 2, "max_steps": 4, "lora_dim": 2,
        "lora_dropout": 0.1, "per_device_train_batch_size": 2, "output_dir": str(folder),
    })  # fmt: skip
    return luthier.load(recipe.run(given, wishes=wishes).path)


def test_a_run_is_the_same_with_and_without_samples(data, tmp_path):
    plain = train(data, tmp_path / "plain")
    assert not [one for one in plain.events() if one["type"] == "sample"]
    run = train(data, tmp_path / "sampled", Wishes(samples=1))
    samples = [one for one in run.events() if one["type"] == "sample"]
    assert [one["step"] for one in samples] == [0, 2, 4]
    assert samples[0]["expected"] == "The letter a."
    assert samples[0]["prompt"].endswith("assistant")
    assert "Say a." in samples[0]["prompt"]
    assert len({one["answer"] for one in samples}) >= 1
    ours, theirs = (load_file(one.result / "adapter_model.safetensors") for one in (plain, run))
    for name, values in ours.items():
        assert (values == theirs[name]).all(), name


def test_more_samples_than_there_may_be_are_refused():
    with pytest.raises(ValueError, match="between 0 and 8"):
        Wishes(samples=9)


def test_wishes_reach_the_process_that_trains(data, tmp_path):
    told = Launch(read.load({"model": "starter", "dataset": data}), Wishes(True, 2), 3)
    told.write(tmp_path)
    assert Launch.read(tmp_path) == told
