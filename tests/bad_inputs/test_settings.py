"""Group C of the table of bad inputs (settings and command line), each on the real command line.

Refused: status 2, one message with what, why and fix, no traceback, nothing left behind.  What the
table calls defined is shown to do what it is defined to do.  Ranges of every single setting are in
tests/config/test_settings.py; here is what a person types.
"""

import json
import os
from pathlib import Path

import pytest
from tests.tiny import tiny_model_folder

from luthier.cli.main import main
from luthier.config import read
from luthier.errors import SettingsError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, rows, files that are no configs, and a folder with somebody's work in it."""
    here = tmp_path_factory.mktemp("settings")
    tiny_model_folder(here / "model", tie=True)
    rows = [{"instruction": f"say {n}", "output": f"it is {n}"} for n in range(5)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (here / "data").mkdir()
    for name in ("rows.jsonl", "data/rows.jsonl", "-rows.jsonl", "ряды 行; rm -rf '\".jsonl"):
        (here / name).write_text(text, "utf-8")
    start = "model: model\ndataset: rows.jsonl\n"
    for name, body in CONFIGS.items():
        (here / f"{name}.yaml").write_text(start + body, "utf-8")
    (here / "large.yaml").write_bytes(b"# " + b"x" * 10 * 2**20)
    (here / "taken").mkdir()
    (here / "taken" / "notes.txt").write_text("mine")
    (here / "plain_file").write_text("mine")
    return here


CONFIGS = {
    "bomb": "system_prompt: &a [x]\ncolumns: {a: *a, b: *a}\n",
    "tag": "seed: !!python/object/apply:os.system ['echo gone > gone.txt']\n",
    "twice": "seed: 1\nseed: 2\n",
    "tab": "columns:\n\tprompt: q\n",
    "word": "load_in_4bit: no\n",
    "exponent": "learning_rate: 1e-4\n",
    "quoted": 'learning_rate: "1e-4"\n',
    "unknown": "learning_rat: 1e-4\nlora_dmi: 4\n",
}
BOTH = ("--model", "model", "--dataset", "rows.jsonl")
HOME = str(Path.home())

REFUSED = {
    # number of the table: words after `train`, what the message must hold
    "C1 near-miss in a file": (["unknown.yaml"], ["learning_rate?", "lora_dim?", "line 3", "line 4"]),
    "C1 near-miss of a flag": ([*BOTH, "--learning_rat", "1"], ["learning_rat", "learning_rate?"]),
    "C1 nothing like it": ([*BOTH, "--colour", "red"], ["colour"]),
    "C2 rate 0": ([*BOTH, "--learning_rate", "0"], ["learning_rate='0'", "greater than 0"]),
    "C2 rate below 0": ([*BOTH, "--learning_rate", "-1e-4"], ["greater than 0"]),
    "C2 rate nan": ([*BOTH, "--learning_rate", "nan"], ["learning_rate", "finite"]),
    "C2 rate 1e9": ([*BOTH, "--learning_rate", "1e9"], ["less than or equal to 1"]),
    "C3 epochs 0": ([*BOTH, "--num_train_epochs", "0"], ["greater than 0"]),
    "C3 epochs -1": ([*BOTH, "--num_train_epochs", "-1"], ["greater than 0"]),
    "C3 epochs 1e9": ([*BOTH, "--num_train_epochs", "1000000000"], ["less than or equal to 10000"]),
    "C3 steps 0": ([*BOTH, "--max_steps", "0"], ["greater than or equal to 1"]),
    "C4 batch 0": ([*BOTH, "--per_device_train_batch_size", "0"], ["greater than or equal to 1"]),
    "C4 batch -1": ([*BOTH, "--per_device_train_batch_size", "-1"], ["greater than or equal to 1"]),
    "C4 batch 2.5": ([*BOTH, "--per_device_train_batch_size", "2.5"], ["2.5", "integer"]),
    "C4 batch true": ([*BOTH, "--per_device_train_batch_size", "true"], ["true"]),
    "C6 rank 0": ([*BOTH, "--method", "lora", "--lora_dim", "0"], ["method: lora and lora_dim: 0"]),
    "C6 rank -1": ([*BOTH, "--lora_dim", "-1"], ["greater than or equal to 0"]),
    "C6 rank over all widths": ([*BOTH, "--lora_dim", "100000"], ["less than or equal to 8192"]),
    "C6 rank over this width": ([*BOTH, "--lora_dim", "4096"], ["lora_dim", "4096", "32"]),
    "C6 alpha 0": ([*BOTH, "--lora_alpha", "0"], ["greater than 0"]),
    "C6 dropout 1": ([*BOTH, "--lora_dropout", "1.0"], ["less than 1"]),
    "C7 targets of nothing": ([*BOTH, "--lora_target_modules", "wq"], ["wq", "q_proj"]),
    "C7 targets of everything": ([*BOTH, "--lora_target_modules", ".*"], [".*", "q_proj"]),
    "C7 a bad expression": ([*BOTH, "--lora_target_modules", "(q_proj"], ["(q_proj", "q_proj"]),
    "C10 length 1": ([*BOTH, "--seq_length", "1"], ["greater than or equal to 8"]),
    "C10 length 10^9": ([*BOTH, "--seq_length", "1000000000"], ["less than or equal to"]),
    "C11 beta 0": ([*BOTH, "--objective", "dpo", "--dpo_beta", "0"], ["greater than 0"]),
    "C11 beta -1": ([*BOTH, "--objective", "dpo", "--dpo_beta", "-1"], ["greater than 0"]),
    "C11 beta inf": ([*BOTH, "--objective", "dpo", "--dpo_beta", "inf"], ["dpo_beta", "finite"]),
    "C11 smoothing": ([*BOTH, "--dpo_label_smoothing", "0.5"], ["less than 0.5"]),
    "C12 warm-up of all": ([*BOTH, "--warmup_ratio", "1"], ["less than 1"]),
    "C12 warm-up above 1": ([*BOTH, "--warmup_ratio", "1.5"], ["less than 1"]),
    "C13 full and a rank": ([*BOTH, "--method", "full", "--lora_dim", "64"], ["method: full", "lora_dim: 64"]),
    "C13 4 and 8 bits": ([*BOTH, "--load_in_4bit", "--load_in_8bit"], ["load_in_4bit", "load_in_8bit"]),
    "C14 aliases": (["bomb.yaml"], ["alias", "line"]),
    "C14 a tag": (["tag.yaml"], ["tag.yaml"]),
    "C14 a name twice": (["twice.yaml"], ["seed given twice"]),
    "C14 a tab": (["tab.yaml"], ["line 4"]),
    "C14 no for false": (["word.yaml"], ["load_in_4bit", "no", "true, false"]),
    "C14 10 MB": (["large.yaml"], ["large.yaml", "256 KiB"]),
    "C15 a folder in use": ([*BOTH, "--output_dir", "taken"], ["something else in it"]),
    "C15 a file": ([*BOTH, "--output_dir", "plain_file"], ["is a file"]),
    "C15 the folder of the data": (["--model", "model", "--dataset", "data/rows.jsonl", "--output_dir", "data"], ["data"]),
    "C15 the root": ([*BOTH, "--output_dir", "/"], ["output_dir"]),
    "C15 home": ([*BOTH, "--output_dir", HOME], [HOME]),
    "C15 a long name": ([*BOTH, "--output_dir", "x" * 4096], ["output_dir"]),
    "C15 a line end": ([*BOTH, "--output_dir", "a\nb"], ["control characters"]),
    "C15 above": ([*BOTH, "--output_dir", ".."], ["output_dir"]),
    "C15 below a file": ([*BOTH, "--output_dir", "plain_file/run"], ["plain_file"]),
    "C16 seed -1": ([*BOTH, "--seed", "-1"], ["greater than or equal to 0"]),
    "C16 seed 2^64": ([*BOTH, "--seed", str(2**64)], ["less than"]),
    "C16 seed abc": ([*BOTH, "--seed", "abc"], ["abc", "integer"]),
    "C17 resume of nothing": ([*BOTH, "--resume"], ["needs output_dir"]),
    "C19 an index": ([*BOTH, "--devices", "cuda:99"], ["counts devices", "CUDA_VISIBLE_DEVICES"]),
    "C19 none": ([*BOTH, "--devices", ""], ["devices"]),
    "C19 one twice": ([*BOTH, "--devices", "0,0"], ["devices"]),
    "C19 more than there are": ([*BOTH, "--devices", "99"], ["devices: 99 on a machine with"]),
    "C20 a flag for a name": (["--model", "model", "--dataset", "-nothing.jsonl"], ["-nothing.jsonl does not exist"]),
}  # fmt: skip


AFTER_LOADING = ("C7", "C19 more")
"""Which layers and devices there are is known later; that the settings are right is said before."""


def attempt(capsys, words):
    """Exit status and what was said."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["train", *words])
    said = capsys.readouterr()
    return ended.value.code or 0, said.out + said.err


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_what_why_and_fix_and_leaves_nothing(case, folder, monkeypatch, capsys):
    words, wanted = REFUSED[case]
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    code, said = attempt(capsys, words)
    assert code == 2, said
    refused = said[said.index("error: ") :]
    assert refused == said or case.startswith(AFTER_LOADING), said
    assert refused.count("\n") <= 6, refused
    assert [text for text in wanted if text not in said] == [], said
    assert "Traceback" not in said
    left = set(folder.rglob("*")) - set(before)
    assert not [path for path in left if path.parts[len(folder.parts)] != "runs"], left


@pytest.mark.parametrize(("name", "rate"), [("exponent", 1e-4), ("quoted", 1e-4)])
def test_c2_a_number_is_a_number_however_it_is_written(folder, name, rate):
    assert read.load(folder / f"{name}.yaml").settings.learning_rate == rate


def test_c2_a_very_high_rate_is_warned_of():
    notices = read.load({"model": "m", "dataset": "d", "learning_rate": 0.5}).notices
    assert any("0.5" in notice and "learning_rate" in notice for notice in notices)


def test_c3_half_an_epoch_is_half_the_rows(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    events = trained(
        capsys, tmp_path, "--num_train_epochs", "0.5", "--per_device_train_batch_size", "1"
    )
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2, 3]


def trained(capsys, tmp_path, *words):
    """Events of a real run on five rows."""
    code, said = attempt(
        capsys, [*BOTH, "--lora_dim", "4", "--output_dir", str(tmp_path / "run"), *words]
    )
    assert code == 0, said
    lines = (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(("batch", "rows"), [(2, [2, 2, 1]), (16, [5])])
def test_c5_a_short_step_is_divided_by_its_own_units(
    folder, monkeypatch, capsys, tmp_path, batch, rows
):
    monkeypatch.chdir(folder)
    events = trained(
        capsys, tmp_path, "--num_train_epochs", "1", "--per_device_train_batch_size", str(batch)
    )
    steps = [event for event in events if event["type"] == "step"]
    assert len(steps) == len(rows)
    data = next(event for event in events if event["type"] == "data")
    assert sum(step["units"] for step in steps) == data["train"]["supervised_tokens"]
    per_row = data["train"]["supervised_tokens"] / 5
    assert [round(step["units"] / per_row) for step in steps] == rows


def test_c8_four_bits_on_a_cpu_are_defined(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    events = trained(capsys, tmp_path, "--load_in_4bit", "--max_steps", "1")
    assert next(event for event in events if event["type"] == "started")["method"] == "qlora"
    assert events[-1]["type"] == "finished"


def test_c10_above_the_limit_of_the_model_the_model_wins_and_says_so(
    folder, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(folder)
    events = trained(capsys, tmp_path, "--seq_length", "4096", "--max_steps", "1")
    notices = [event["text"] for event in events if event["type"] == "notice"]
    assert any("4096 is more than the model's 256" in notice for notice in notices)


def test_c17_a_resume_with_changed_settings_lists_them(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    trained(capsys, tmp_path, "--max_steps", "1")
    again = [
        "--output_dir",
        str(tmp_path / "run"),
        "--resume",
        "--learning_rate",
        "3e-3",
        "--seed",
        "7",
    ]
    code, said = attempt(capsys, [*BOTH, "--lora_dim", "4", "--max_steps", "1", *again])
    assert code == 2, said
    assert "learning_rate" in said
    assert "seed" in said


ENVIRONMENT = {
    "LUTHIER_HOME": ["a\nb", "/dev/null/home"],
    "LUTHIER_NO_PROOF": ["maybe", "2"],
}


@pytest.mark.parametrize(
    ("name", "junk"), [(n, j) for n, junk in ENVIRONMENT.items() for j in junk]
)
def test_c18_junk_in_the_environment_is_refused_by_name(folder, monkeypatch, capsys, name, junk):
    monkeypatch.chdir(folder)
    monkeypatch.setenv(name, junk)
    code, said = attempt(capsys, [*BOTH, "--max_steps", "1", "--lora_dim", "4"])
    assert code == 2, said
    assert name in said, said


def test_c20_names_are_plain_text_and_never_a_shell(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    odd = "ряды 行; rm -rf '\".jsonl"
    where = tmp_path / "лауф 運行; touch gone"
    words = ["--model", "model", f"--dataset={odd}", "--output_dir", str(where), "--max_steps", "1"]
    code, said = attempt(capsys, [*words, "--lora_dim", "4"])
    assert code == 0, said
    assert (where / "result").is_dir()
    assert not Path("gone").exists()
    assert read.load({"model": "m", "dataset": "-rows.jsonl"}).settings.dataset == ("-rows.jsonl",)


def test_c20_a_leading_dash_is_a_name_where_it_is_joined(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    words = ["--model", "model", "--dataset=-rows.jsonl", "--output_dir", str(tmp_path / "run")]
    code, said = attempt(capsys, [*words, "--max_steps", "1", "--lora_dim", "4"])
    assert code == 0, said


def test_every_problem_of_a_kind_comes_in_one_message():
    with pytest.raises(SettingsError) as refused:
        read.load({"model": "m", "dataset": "d", "seed": -1, "lora_dmi": 3, "dpo_beta": 0})
    said = str(refused.value)
    assert all(name in said for name in ("seed", "lora_dmi", "dpo_beta"))


def test_nothing_of_this_was_run_by_a_shell(folder):
    assert not (folder / "gone.txt").exists()
    assert os.path.exists(folder / "taken" / "notes.txt")
