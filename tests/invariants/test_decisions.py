"""What a plan says is what the run of the same settings uses."""

import json

import pytest
from tests.conftest import CHECKOUT

from luthier.cli.main import main

DATA = CHECKOUT / "src" / "luthier" / "starter" / "data"
ROWS = {"sft": DATA / "sft_train.jsonl", "dpo": DATA / "preference_train.jsonl"}


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    shown = capsys.readouterr()
    assert not ended.value.code, shown.err
    return shown.out


@pytest.mark.parametrize("objective", ROWS)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_plan_decides_what_the_run_uses(method, objective, tmp_path, capsys):
    told = ["--model", "starter", "--dataset", str(ROWS[objective]), "--objective", objective]
    told += ["--method", method, "--max_steps", "1", "--eval_split", "0"]
    planned = json.loads(run(capsys, "plan", *told, "--json"))
    run(capsys, "train", *told, "--output_dir", str(tmp_path / "run"))
    used = json.loads((tmp_path / "run" / "settings.json").read_text("utf-8"))["settings"]
    kept = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))
    assert kept["disk_bytes"] == planned["disk_bytes"]
    chosen = {name: value for name, (value, _) in planned["chosen"].items()}
    assert {"micro_batch_tokens", "gradient_checkpointing"} <= chosen.keys()
    assert {name: used[name] for name in chosen} == chosen
