"""Sample answers at evaluations: there when asked for, and without effect on the training."""

import json
from html import escape

import pytest
from safetensors.numpy import load_file

import luthier
from luthier.cli.overview import overview
from luthier.config import read
from luthier.config.launch_file import NOTHING, Launch, Wishes
from luthier.config.words import value_of
from luthier.errors import TooLongError
from luthier.recipes.after.evaluate import evaluate_model
from luthier.recipes.run import train as recipe
from luthier.runs import RunDirectory


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.jsonl"
    turns = [
        {"role": "user", "content": "Say a."},
        {"role": "assistant", "content": "The letter a."},
    ]
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for _ in range(8)))
    return str(path)


def train(data, folder, wishes=NOTHING, **settings):
    given = read.load(arguments={
        "model": "starter", "dataset": data, "eval_split": 2, "eval_steps": 2, "max_steps": 4, "lora_dim": 2,
        "lora_dropout": 0.1, "per_device_train_batch_size": 2, "output_dir": str(folder),
        **settings,
    })  # fmt: skip
    return luthier.load(recipe.run(given, wishes=wishes).path)


def test_a_run_is_the_same_with_and_without_samples(data, tmp_path):
    plain = train(data, tmp_path / "plain")
    assert not [one for one in plain.events() if one["type"] == "sample"]
    questions = ["Good morning, Ann", "Say b."]
    run = train(data, tmp_path / "sampled", Wishes(samples=1), sample_prompts=questions)
    written = [one for one in run.events() if one["type"] == "sample"]
    asked = [one for one in written if one["prompt"] in questions]
    assert [(one["step"], one["prompt"]) for one in asked] == [
        (step, question) for step in (0, 2, 4) for question in questions
    ]
    assert {one["expected"] for one in asked} == {""}
    assert asked[-1]["answer"] == run.chat("Say b.", max_new_tokens=64)
    shown = overview(RunDirectory.open(run.path))["samples"]
    assert shown["Say b."].startswith(" ".join(asked[-1]["answer"].split()))
    report = evaluate_model(str(run.path), [data], metrics=["loss"]).report()
    assert "<h3>Good morning, Ann</h3>" in report
    assert f"<pre>{escape(asked[-1]['answer'])}</pre>" in report
    samples = [one for one in written if one not in asked]
    assert [one["step"] for one in samples] == [0, 2, 4]
    assert samples[0]["expected"] == "The letter a."
    assert samples[0]["prompt"].endswith("assistant")
    assert "Say a." in samples[0]["prompt"]
    assert len({one["answer"] for one in samples}) >= 1
    ours, theirs = (load_file(one.result / "adapter_model.safetensors") for one in (plain, run))
    for name, values in ours.items():
        assert (values == theirs[name]).all(), name


def test_a_question_that_fills_the_model_is_refused_before_the_first_step(data, tmp_path):
    with pytest.raises(TooLongError, match="sample_prompts"):
        train(data, tmp_path / "run", sample_prompts=["word " * 600])
    assert not [one for one in read_events(tmp_path) if one["type"] == "step"]


def read_events(folder):
    return [
        json.loads(line)
        for line in (folder / "run" / "events.jsonl").read_text().split("\n")
        if line
    ]


def test_questions_of_a_command_line_keep_their_commas():
    assert value_of("sample_prompts", "Hello, you") == ["Hello, you"]
    assert value_of("sample_prompts", ["Hello, you", "b"]) == ["Hello, you", "b"]


def test_more_samples_than_there_may_be_are_refused():
    with pytest.raises(ValueError, match="between 0 and 8"):
        Wishes(samples=9)


def test_wishes_reach_the_process_that_trains(data, tmp_path):
    told = Launch(read.load({"model": "starter", "dataset": data}), Wishes(True, 2), 3)
    told.write(tmp_path)
    assert Launch.read(tmp_path) == told
