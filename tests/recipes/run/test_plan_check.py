"""A run is planned before its model is loaded, refused if it cannot fit, and compared with its plan."""

import dataclasses
import json

import pytest
from tests.tiny import tiny_model_folder

from luthier import events
from luthier.config import read
from luthier.config.launch_file import Wishes
from luthier.errors import CapacityError
from luthier.planner import history
from luthier.planner.device import this_processor
from luthier.recipes.run import prepare, rank
from luthier.recipes.run import train as recipe
from luthier.units import MIB


@pytest.fixture
def settings(tmp_path):
    folder = tiny_model_folder(tmp_path / "base")
    rows = [{"instruction": f"say {n}", "output": f"it is {n}"} for n in range(8)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": str(folder),
        "dataset": str(data),
        "torch_dtype": "float32",
        "lora_dim": 4,
        "max_steps": 3,
        "per_device_train_batch_size": 4,
        "output_dir": str(tmp_path / "run"),
    }


@pytest.fixture
def small_machine(monkeypatch):
    """A processor with 256 MiB in all."""
    small = dataclasses.replace(this_processor(), name="CPU, small", memory_bytes=256 * MIB)
    monkeypatch.setattr(rank, "facts_of", lambda device: small)


def of_type(result, kind):
    return [one for one in events.read(result.path / "events.jsonl") if one["type"] == kind]


def test_after_two_steps_a_run_compares_itself_with_its_plan(settings):
    result = recipe.run(read.load(settings))
    checked = of_type(result, "plan_checked")
    assert len(checked) == 1
    plan = json.loads((result.path / "plan.json").read_text())["predicted"]
    assert checked[0]["predicted_bytes"] == plan["allocated_bytes"]
    assert checked[0]["measured_bytes"] > 0
    assert sum(plan["parts"].values()) == plan["peak_bytes"]
    kept = list(history.past())
    assert [run.predicted_bytes for run in kept] == [plan["allocated_bytes"]]
    assert kept[0].method == "lora"
    assert kept[0].runtime_bytes > 0


def test_what_cannot_fit_is_refused_before_a_weight_is_loaded(settings, small_machine, monkeypatch):
    def never(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(prepare, "make_trainee", never)
    with pytest.raises(CapacityError) as caught:
        recipe.run(read.load(settings))
    assert "CPU, small has 256 MiB" in caught.value.what
    assert "--ignore-plan" in caught.value.fix


def test_it_trains_all_the_same_when_told_to(settings, small_machine):
    result = recipe.run(read.load(settings), wishes=Wishes(ignore_plan=True))
    assert result.reason == "completed"
    assert any("all the same" in one["text"] for one in of_type(result, "warning"))
