"""`luthier advise` as somebody types it: reads real files, says why, writes what train takes."""

import json
import shlex
import subprocess
import sys

import pytest
import yaml

from luthier.advisor.speech import LANGUAGES
from luthier.cli.main import main
from luthier.config import read


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"instruction": f"What is {n} plus {n}?", "output": f"It is {2 * n}."})
        for n in range(120)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [
        json.dumps(
            {"prompt": f"Say {n}", "chosen": f"Of course: {n}, my friend.", "rejected": "no"}
        )
        for n in range(60)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def asked(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["advise", "--model", "starter", *map(str, words)])
    said = capsys.readouterr()
    assert ended.value.code in (None, 0), said.err
    return said.out


def test_every_choice_is_shown_with_its_reason_and_source(capsys, rows):
    said = asked(capsys, "--dataset", rows)
    for setting in ("method", "seq_length", "learning_rate", "num_train_epochs", "eval_split"):
        assert f"\n{setting} " in f"\n{said}"
    assert "120 rows" in said
    assert "[luthier, measured]" in said
    assert "--output run.yaml" in said


def test_the_file_is_a_commented_config_that_train_resolves(capsys, rows, tmp_path):
    config = tmp_path / "run.yaml"
    said = asked(capsys, "--dataset", rows, "--output", config)
    assert f"luthier train {config}" in said
    text = config.read_text("utf-8")
    resolved = read.load(config)
    assert resolved.settings.dataset == (str(rows),)
    assert resolved.settings.eval_split == 12
    assert resolved.notices == []
    for name in yaml.safe_load(text):
        above = text.split(f"\n{name}:")[0].rsplit("\n", 1)[-1]
        assert name in ("model", "dataset") or above.startswith("#"), name


def test_an_existing_file_is_not_replaced(capsys, rows, tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("mine")
    with pytest.raises(SystemExit) as refused:
        main(["advise", "--model", "starter", "--dataset", str(rows), "--output", str(config)])
    assert refused.value.code == 2
    assert "already exists" in capsys.readouterr().err
    assert config.read_text() == "mine"


def test_pairs_become_dpo_and_their_length_bias_is_named(capsys, pairs):
    said = json.loads(asked(capsys, "--dataset", pairs, "--json"))
    assert said["settings"]["objective"] == "dpo"
    assert 0.1 <= said["settings"]["dpo_beta"] <= 0.5
    assert "remark_length_bias" in [remark["code"] for remark in said["remarks"]]
    assert read.load(said["settings"]).settings.objective == "dpo"


def test_settings_that_are_given_are_kept(capsys, rows):
    said = json.loads(
        asked(capsys, "--dataset", rows, "--method", "lora", "--lora_dim", "8", "--json")
    )
    assert said["settings"]["method"] == "lora"
    assert said["settings"]["lora_dim"] == 8
    assert said["settings"]["lora_alpha"] == 16.0
    assert "method" not in [reason["setting"] for reason in said["reasons"]]


def test_held_out_files_take_the_place_of_a_split(capsys, rows, pairs):
    said = json.loads(asked(capsys, "--dataset", rows, "--eval_dataset", rows, "--json"))
    assert "eval_split" not in said["settings"]
    assert said["settings"]["early_stopping_patience"] >= 2


@pytest.mark.parametrize("lang", LANGUAGES)
def test_reasons_come_in_four_languages(capsys, rows, lang):
    said = json.loads(asked(capsys, "--dataset", rows, "--lang", lang, "--json"))
    words = {"en": "rows", "zh": "条数据", "id": "baris", "vi": "dòng"}
    assert words[lang] in " ".join(reason["text"] for reason in said["reasons"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--lang", "de"], "--lang de"),
        (["--device", "abacus"], "abacus"),
        (["--model", "Qwen/Qwen3-8B"], "gallery pull"),
        (["--dataset", "nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(capsys, rows, words, named):
    given = {"--model": "starter", "--dataset": str(rows)}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    with pytest.raises(SystemExit) as refused:
        main(["advise", *(word for pair in given.items() for word in pair)])
    assert refused.value.code == 2
    assert named in capsys.readouterr().err


def test_a_machine_that_is_not_here_can_be_asked_about(capsys, rows):
    said = json.loads(asked(capsys, "--dataset", rows, "--device", "2x A100 80GB", "--json"))
    method = next(reason for reason in said["reasons"] if reason["setting"] == "method")
    assert method["params"]["device"].startswith("A100")


def test_advice_needs_no_torch(rows):
    code = (
        "import sys\nfrom luthier.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    words = ["advise", "--model", "starter", "--dataset", str(rows)]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr


def test_real_rows_in_three_languages_are_advised(capsys, shared):
    for name in ("sft/identity.json", "sft/facqa_id_alpaca.jsonl"):
        said = json.loads(asked(capsys, "--dataset", shared(name), "--json"))
        assert read.load(said["settings"]).settings.method == "full"


def test_what_train_refuses_is_refused_with_a_command_that_mends_it(capsys, tmp_path):
    path = tmp_path / "mine.jsonl"
    lines = [{"ask": f"What is {n}?", "reply": None if n % 40 == 9 else "It."} for n in range(120)]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    words = ["--dataset", str(path), "--columns", "prompt=ask,completion=reply"]
    for command in ("advise", "train"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--model", "starter", *words])
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert "3 of 120 train rows cannot be used" in said
    fix = said.rpartition("fix: ")[2].partition(" leaves out")[0]
    with pytest.raises(SystemExit):
        main(shlex.split(fix)[1:])
    said = capsys.readouterr().out
    fixed = tmp_path / "mine-fixed.jsonl"
    assert f"luthier train --model starter --dataset {fixed}" in said
    assert "117 rows" in asked(capsys, "--dataset", fixed)  # no columns have to be named again
