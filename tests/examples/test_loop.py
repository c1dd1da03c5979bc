"""The flat training loop of the examples learns what `luthier train` learns, to the last digits."""

import importlib.util
import json

import pytest
from safetensors.numpy import load_file
from tests.conftest import CHECKOUT

import luthier

SCRIPT = CHECKOUT / "examples" / "loop.py"


@pytest.fixture(scope="module")
def loop():
    spec = importlib.util.spec_from_file_location("loop", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_loop_of_the_example_equals_luthier_train(loop, tmp_path):
    rows = tmp_path / "rows.jsonl"
    lines = [{"prompt": f"Say {n}.", "response": f"It is {n * n}."} for n in range(20)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    losses = loop.train(
        "starter", str(rows), output=tmp_path / "flat", samples_per_step=4, lora_dim=8
    )
    run = luthier.train(
        model="starter",
        dataset=str(rows),
        method="lora",
        lora_dim=8,
        torch_dtype="float32",
        learning_rate=2e-4,
        per_device_train_batch_size=4,
        micro_batch_tokens=2048,
        share_prefixes=True,
        num_train_epochs=1,
        eval_split=0,
        seed=0,
        logging_steps=1,
        output_dir=str(tmp_path / "run"),
    )
    events = (run.path / "events.jsonl").read_text("utf-8").splitlines()
    logged = [one["loss"] for one in map(json.loads, events) if one["type"] == "step"]
    assert losses == pytest.approx(logged, abs=1e-7)
    assert len(losses) == 5
    ours = load_file(tmp_path / "flat" / "adapter_model.safetensors")
    theirs = load_file(run.path / "result" / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(ours[name] == pytest.approx(theirs[name], abs=1e-6) for name in ours)


def test_the_example_can_be_read_at_once():
    assert len(SCRIPT.read_text("utf-8").splitlines()) <= 150
