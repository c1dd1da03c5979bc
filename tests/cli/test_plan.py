"""`luthier plan` as a person meets it."""

import json
import os
import subprocess
import sys

import pytest

from luthier.cli import main
from luthier.recipes.before.planned import make_plan

GIVEN = ["plan", "--model", "qwen3-8b", "--method", "qlora", "--device", "T4 16GB"]


def run(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    shown = capsys.readouterr()
    return caught.value.code or 0, shown.out, shown.err


def test_a_gallery_model_is_planned_without_its_files_or_data(capsys):
    code, out, _ = run(GIVEN, capsys)
    assert code == 0
    assert "T4, 15 GiB" in out
    assert "it fits" in out
    for part in ("weights", "quantisation", "adapters", "optimiser", "activations", "runtime"):
        assert part in out
    assert "no data given" in out


def test_what_does_not_fit_says_what_would_and_exits_with_2(capsys):
    code, out, _ = run(["plan", "--model", "qwen3-8b", "--device", "T4 16GB"], capsys)
    assert code == 2
    assert "it does not fit" in out
    assert "--method qlora" in out


def test_json_is_the_whole_plan(capsys):
    code, out, _ = run([*GIVEN, "--json"], capsys)
    found = json.loads(out)
    assert code == 0
    assert sum(found["parts"].values()) == found["peak_bytes"]
    assert found["device"]["name"] == "T4, 15 GiB"


def test_real_rows_are_counted_as_training_counts_them(tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    rows = [{"instruction": f"say {n}", "output": f"it is {n}"} for n in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["plan", "--model", "starter", "--dataset", str(data), "--json"]
    _, out, _ = run(words, capsys)
    found = json.loads(out)
    assert found["notes"] == ["seq_length 2048 is more than the model's 512: 512 is used"]
    assert 0 < found["work"]["targets"] < found["work"]["tokens"] < 2048
    words[2] = "qwen3-0.6b"  # whose tokenizer is not here
    _, out, _ = run(words, capsys)
    assert "estimate" in json.loads(out)["notes"][0]


def test_a_file_of_settings_is_planned_and_flags_win(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("model: qwen3-8b\nmethod: lora\nlora_dim: 8\n")
    first = make_plan(config)
    second = make_plan(config, {"lora_dim": "64"})
    assert second.plan.parts["adapters"] == 8 * first.plan.parts["adapters"]


def test_the_card_of_a_model_decides_as_it_does_for_training():
    given = {"model": "smollm2-1.7b", "method": "full"}
    found = make_plan(given).plan
    rate, why = found.chosen["learning_rate"]
    assert (rate, found.chosen["num_train_epochs"][0]) == (3e-4, 2.0)
    assert why.startswith("gallery smollm2-1.7b: ")
    assert make_plan({**given, "learning_rate": 1e-5}).settings.learning_rate == 1e-5


def test_the_closed_form_loads_no_torch():
    code = f"import sys\nfrom luthier.cli.main import main\ntry:\n    main({GIVEN!r})\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr
