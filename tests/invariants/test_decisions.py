"""What a plan says is what the run of the same settings uses."""

import json

import pytest
from tests.conftest import CHECKOUT

from luthier.cli.main import main
from luthier.config import read
from luthier.recipes.before.deciding import Decided
from luthier.recipes.before.planned import make_plan
from luthier.recipes.run.context import Post, RunContext

DATA = CHECKOUT / "src" / "luthier" / "starter" / "data"
OPEN = {
    *("learning_rate", "num_train_epochs", "per_device_train_batch_size", "lora_alpha"),
    *("gradient_checkpointing", "micro_batch_tokens", "share_prefixes", "torch_dtype"),
}
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
    assert OPEN - ({"lora_alpha"} if method == "full" else set()) == chosen.keys()
    assert {name: used[name] for name in chosen} == chosen
    assert kept["chosen"] == planned["chosen"]
    assert kept["samples_per_step"] == planned["cut"]["samples_per_step"]
    assert kept["micro_batch_tokens"] == planned["cut"]["micro_batch_tokens"]
    same = ("parts", "peak_bytes", "allocated_bytes", "host_bytes", "tokens", "work")
    assert {name: kept["predicted"][name] for name in same} == {n: planned[n] for n in same}


def test_nothing_of_a_decided_run_changes(tmp_path):
    given = read.load({"model": "starter", "dataset": str(ROWS["sft"])})
    decided = make_plan({"model": "starter", "dataset": str(ROWS["sft"])}).decided
    for holder in (RunContext, Post, Decided):
        assert holder.__dataclass_params__.frozen, holder
    left = [name for name, value in decided.settings if value == "auto"]
    assert left == [], "nothing is open once it is decided"
    assert given.settings.learning_rate is None
    assert decided.settings.learning_rate == decided.learning_rate
