"""What a newcomer gets wrong on the real command line: each is refused in a sentence, before torch is
loaded where no model is needed, and leaves nothing behind that is in the way of the next attempt."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import tiny_model_folder

from luthier.cli.main import main


def rows(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found), "utf-8")


def edited(path, **changes):
    fields = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({name: value for name, value in fields.items() if value is not None})
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as a newcomer's: some files right, most wrong."""
    here = tmp_path_factory.mktemp("newcomer")
    model = tiny_model_folder(here / "model")
    rows(here / "sft.jsonl", [{"instruction": f"q{i}", "output": f"a {i}"} for i in range(20)])
    pairs = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(20)]
    rows(here / "pairs.jsonl", pairs)
    rows(here / "unknown.jsonl", [{"foo": "a", "bar": "b"}] * 5)
    good, bad = {"instruction": "q", "output": "a"}, {"instruction": "q", "output": ""}
    rows(here / "half_bad.jsonl", [good] * 5 + [bad] * 5)
    (here / "empty.jsonl").write_text("")
    (here / "broken.jsonl").write_text(
        '{"instruction": "a", "output": "b"}\n{"instruction": "a", \n'
    )
    (here / "latin.jsonl").write_bytes('{"instruction": "é", "output": "ü"}\n'.encode("latin-1"))
    (here / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("noweights", "binweights", "cut", "notokenizer"):
        shutil.copytree(model, here / name)
    for name in ("noweights", "binweights"):
        (here / name / "model.safetensors").unlink()
    (here / "binweights" / "pytorch_model.bin").write_bytes(b"x" * 100)
    weights = here / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (here / "notokenizer" / name).unlink()
    (here / "emptydir").mkdir()
    (here / "full").mkdir()
    (here / "full" / "notes.txt").write_text("mine")
    (here / "bad.yaml").write_text("model: model\n  dataset: x\n")
    (here / "twice.yaml").write_text("model: model\nmodel: other\ndataset: sft.jsonl\n")
    (here / "typos.yaml").write_text(
        "model: model\ndataset: sft.jsonl\nlearing_rate: 1\nlora_dmi: 4\n"
    )
    (here / "bad.jinja").write_text("{% for m in messages %}{{ m.nothing.x }}{% endfor %}")
    (here / "adapter").mkdir()
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
    config["base_model_name_or_path"] = str(model)
    (here / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    return here


MODEL, DATA = ("--model", "model"), ("--dataset", "sft.jsonl")
BOTH = (*MODEL, *DATA)
WRONG = {
    # what is given, and what the message must say: what, why or fix
    "nothing": ((), ["model and dataset are not given", "luthier train --model starter"]),
    "no data set": (MODEL, ["dataset is not given", "--dataset rows.jsonl"]),
    "no model": (DATA, ["model is not given", "--model starter"]),
    "a config that is not there": (("none.yaml",), ["none.yaml is not a file"]),
    "rows for a config": (("sft.jsonl", *MODEL), ["is a file of rows", "--dataset sft.jsonl"]),
    "a model for a config": (("model", *DATA), ["model is not a file", "--model model"]),
    "a config that is no YAML": (("bad.yaml",), ["bad.yaml: line 2"]),
    "a setting twice": (("twice.yaml",), ["model given twice", "keep one"]),
    "two misspelt settings": (("typos.yaml",), ["did you mean learning_rate?", "did you mean lora_dim?", "line 4"]),
    "a misspelt flag": ((*BOTH, "--lora_dmi", "4"), ["did you mean lora_dim?", "--lora_dim 4"]),
    "a dtype unknown": ((*BOTH, "--torch_dtype", "float8"), ["float8", "'bfloat16'", "--torch_dtype auto"]),
    "a batch of 0": ((*BOTH, "--per_device_train_batch_size", "0"), ["greater than or equal to 1", "size auto"]),
    "a rate too high": ((*BOTH, "--learning_rate", "5"), ["learning_rate='5'", "less than or equal to 1"]),
    "a word for a number": ((*BOTH, "--learning_rate", "abc"), ["abc", "a valid number"]),
    "no epochs": ((*BOTH, "--num_train_epochs", "0"), ["greater than 0"]),
    "dropout above 1": ((*BOTH, "--lora_dropout", "1.5"), ["less than 1", "--lora_dropout 0.0"]),
    "a sequence of 4": ((*BOTH, "--seq_length", "4"), ["greater than or equal to 8", "--seq_length 2048"]),
    "an optimiser unknown": ((*BOTH, "--optim", "sgd"), ["sgd", "adamw_torch"]),
    "a contradiction": ((*BOTH, "--method", "full", "--load_in_4bit"), ["method: full and load_in_4bit: true"]),
    "code of the model": ((*BOTH, "--trust_remote_code"), ["a model's own code is never run"]),
    "a flag without value": ((*BOTH, "--lora_dim"), ["--lora_dim has no value"]),
    "patience without evaluation": ((*BOTH, "--early_stopping_patience", "3"), ["needs eval_dataset or eval_split"]),
    "resume without a run": ((*BOTH, "--resume"), ["needs output_dir"]),
    "a data set that is not there": ((*MODEL, "--dataset", "sfft.jsonl"), ["sfft.jsonl does not exist", "sft.jsonl"]),
    "held-out rows that are not there": ((*BOTH, "--eval_dataset", "x.jsonl"), ["x.jsonl does not exist"]),
    "an empty file": ((*MODEL, "--dataset", "empty.jsonl"), ["empty.jsonl has no rows"]),
    "broken JSON": ((*MODEL, "--dataset", "broken.jsonl"), ["broken.jsonl line 2"]),
    "unknown columns": ((*MODEL, "--dataset", "unknown.jsonl"), ["'bar', 'foo'", "columns:"]),
    "another encoding": ((*MODEL, "--dataset", "latin.jsonl"), ["not UTF-8", "right: cp1252"]),
    "a picture": ((*MODEL, "--dataset", "picture.png"), [".png", ".jsonl"]),
    "an empty folder": ((*MODEL, "--dataset", "emptydir"), ["emptydir has no data files"]),
    "answers that are empty": ((*MODEL, "--dataset", "half_bad.jsonl"), ["5 of 10", "line 6", "1 %"]),
    "pairs for SFT": ((*MODEL, "--dataset", "pairs.jsonl"), ["preference pairs", "--objective dpo"]),
    "dialogues for DPO": ((*BOTH, "--objective", "dpo"), ["conversations", "--objective sft"]),
    "rows longer than 8 tokens": ((*BOTH, "--seq_length", "8"), ["longer than seq_length 8", "fix: seq_length: 27\n"]),
    "more held out than there is": ((*BOTH, "--eval_split", "5000"), ["5000 of 20 rows", "--eval_split 0.1"]),
    "a share above 1": ((*BOTH, "--eval_split", "1.5"), ["a share below 1 or a whole number"]),
    "a template that fails": ((*BOTH, "--chat_template", "bad.jinja"), ["nothing"]),
    "a template that is not there": ((*BOTH, "--chat_template", "x.jinja"), ["x.jinja", "no file"]),
    "a model misspelt": (("--model", "modle", *DATA), ["there is no model 'modle'", "nearest: model"]),
    "a gallery name misspelt": (("--model", "qwen3-0.7b", *DATA), ["qwen3-0.6b"]),
    "a model without weights": (("--model", "noweights", *DATA), ["noweights has no weights"]),
    "a model with pickled weights": (("--model", "binweights", *DATA), ["pytorch_model.bin", "safetensors"]),
    "a model half downloaded": (("--model", "cut", *DATA), ["model.safetensors is damaged"]),
    "a model without tokenizer": (("--model", "notokenizer", *DATA), ["notokenizer holds no tokenizer"]),
    "a folder that is no model": (("--model", "emptydir", *DATA), ["emptydir has no config.json"]),
    "a file for a model": (("--model", "model/config.json", *DATA), ["is a file", "give the folder: model"]),
    "another rank than the adapter's": (
        ("--model", "adapter", *DATA, "--lora_dim", "16"),
        ["lora_dim: 16, the adapter has 8"],
    ),
    "a folder in use": ((*BOTH, "--output_dir", "full"), ["something else in it", "full-2"]),
    "a file for a folder": ((*BOTH, "--output_dir", "sft.jsonl"), ["is a file"]),
}  # fmt: skip


def train(capsys, *words):
    """Exit status and what was said, of one attempt."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["train", *map(str, words)])
    said = capsys.readouterr()
    return ended.value.code or 0, said.out + said.err


@pytest.mark.parametrize("case", WRONG)
def test_it_is_refused_in_a_sentence_and_leaves_nothing(case, folder, monkeypatch, capsys):
    words, wanted = WRONG[case]
    monkeypatch.chdir(folder)
    before = sorted(path for path in folder.rglob("*"))
    code, said = train(capsys, *words)
    assert code == 2, said
    assert said.startswith("error: "), said
    assert [text for text in wanted if text not in said] == [], said
    assert "Traceback" not in said
    assert "\n  fix: " in said
    assert sorted(path for path in folder.rglob("*")) == before


def test_none_of_these_loads_torch(folder):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from luthier.cli.main import main
for words in {[list(words) for words, _ in WRONG.values()]!r}:
    try:
        main(["train", *words])
    except SystemExit as end:
        assert end.code == 2, words
    assert "torch" not in sys.modules and "transformers" not in sys.modules, words
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder,
        env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_run_that_never_trained_is_not_in_the_way(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    where = ("--output_dir", "out")
    code, said = train(capsys, *BOTH, *where, "--lora_target_modules", "wq,wv")
    assert code == 2
    assert "wq is the end of no module's name" in said
    assert said.count("cannot be adapted") == 1
    created = json.loads(Path("out/run.json").read_text())["created"]
    code, said = train(capsys, *BOTH, *where, "--max_steps", "1")
    assert code == 0, said
    assert json.loads(Path("out/run.json").read_text())["created"] > created
    events = [
        json.loads(line)["type"] for line in Path("out/events.jsonl").read_text().splitlines()
    ]
    assert "failed" not in events
    code, said = train(capsys, *BOTH, *where, "--max_steps", "1")
    assert code == 2
    assert "already holds a run" in said
    shutil.rmtree("out")


def test_more_devices_than_there_are(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    code, said = train(capsys, *BOTH, "--devices", "999")
    assert code == 2
    assert "devices: 999 on a machine with" in said
    assert not Path("runs").exists()


def test_an_automatic_name_is_used_again(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for _ in range(2):
        code, _ = train(capsys, *BOTH, "--lora_target_modules", "wq,wv")
        assert code == 2
    assert len(list(Path("runs").iterdir())) == 1
    shutil.rmtree("runs")
