"""Where DPO starts: policy = reference, so the loss is ln 2, whatever dropout the files ask for.

With `lora_dropout` and a starting adapter that is not zero, the *training* pass of step 1 has
masks that the reference must not have; the loss before the first step is then the evaluated one.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.invariants import reference as ref
from tests.invariants.product import Product, make_product, model_folder
from tests.invariants.test_parity import move

import luthier
from luthier.data.packing.pack import pack
from luthier.recipes.run.objective import PairObjective
from luthier.recipes.run.steps import MicroBatch
from luthier.runs import home

FAMILIES = ("llama", "gpt2", "gemma2")
GATE = 1e-6
SHARED_GATE = 5e-6  # the policy shares prefixes across pairs, the reference within one


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    """A base whose config asks for dropout everywhere, or an SFT run on it with B != 0."""
    made: dict[tuple[str, str], Path] = {}
    folder = tmp_path_factory.mktemp("starts")

    def start(family: str, kind: str) -> Path:
        if (family, kind) in made:
            return made[family, kind]
        if kind == "base":
            path = model_folder(folder / family, family)
            config = json.loads((path / "config.json").read_text())
            dropping = [name for name in config if "dropout" in name or "pdrop" in name]
            assert dropping
            config |= dict.fromkeys(dropping, 0.1)
            (path / "config.json").write_text(json.dumps(config))
        else:
            rows = folder / "sft.jsonl"
            lines = [json.dumps({"messages": row}) + "\n" for row in ref.conversations(3)]
            rows.write_text("".join(lines))
            run = luthier.train(
                model=start(family, "base"),
                dataset=rows,
                output_dir=folder / f"{family} sft",
                max_steps=3,
                learning_rate=2e-2,
                lora_dim=8,
                lora_dropout=0.2,
                lr_scheduler_type="constant",
            )
            path = run.path
            adapter = torch_load(run.result / "adapter_model.safetensors")
            assert all(value.any() for name, value in adapter.items() if "lora_B" in name)
        made[family, kind] = path
        return path

    return start


def torch_load(path: Path) -> dict[str, Any]:
    return dict(load_file(path))


def dpo_run(start: Path, work: Path, *, seed: int = 0, **settings: Any) -> luthier.Run:
    """A DPO run that is evaluated on its own pairs before the first step."""
    data = work / f"pairs {seed}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ref.pairs(seed)))
    given: dict[str, Any] = {"lora_dropout": 0.2, "max_steps": 1, "dpo_beta": 0.3, "lora_dim": 8}
    given |= settings
    given.setdefault("output_dir", work / f"run {len(list(work.iterdir()))}")
    return luthier.train(model=start, dataset=data, eval_dataset=data, objective="dpo", **given)


def losses(run: luthier.Run) -> list[float]:
    return [event["loss"] for event in run.events() if event["type"] == "step"]


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("kind", ["base", "SFT run"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_starts_at_ln_2(family, kind, share, starts, tmp_path):
    dropout = {"share_prefixes": True, "lora_dropout": 0.0} if share else {}
    run = dpo_run(starts(family, kind), tmp_path, **dropout)
    gate = SHARED_GATE if share else GATE
    error = abs(run.ended.before["loss"] - math.log(2))
    print(f"|loss - ln 2|, {family} on {kind}, shared {share}: {error:.1e}")  # noqa: T201
    assert error <= gate
    if kind == "base" or share:  # nothing drops out: B is zero, or the rate is
        assert losses(run)[0] == pytest.approx(math.log(2), abs=gate)
    else:
        assert abs(losses(run)[0] - math.log(2)) > 1e-4  # dropout is on where it belongs


@pytest.fixture
def product(starts, tmp_path):
    """A model that starts from an SFT run, with its pairs."""

    def make(family: str = "llama", **settings: Any) -> Product:
        given = {"objective": "dpo", "dpo_beta": 0.3, **settings}
        return make_product(starts(family, "SFT run"), ref.pairs(1), tmp_path, **given)

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_of_equals_has_no_gradient(family, product):
    made = product(family, cut="tree")
    made.examples = [
        dataclasses.replace(example, sequences=(example.sequences[0],) * 2)
        for example in made.examples
    ]
    loss, gradients = made.one_step(made.reference())
    assert loss == pytest.approx(math.log(2), abs=SHARED_GATE)
    assert len(gradients) == len(made.trainee.trained)
    assert not any(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_swapping_a_pair_negates_its_margin(family, product):
    made = product(family)
    reference_P2 = made.reference()
    move(made, 5)
    for pair, example in enumerate(made.examples):
        values = []
        for order in ((0, 1), (1, 0)):
            swapped_12 = reference_P2[pair, order][None]
            objective = PairObjective(made.trainee, swapped_12, made.settings)
            sequences = [example.sequences[side] for side in order]
            batch = MicroBatch(pack(sequences, share=False), 1, (0,))
            with torch.no_grad():
                values.append(float(objective(batch).metrics["rewards_margins"]))
        assert values[0] == -values[1] != 0


def cached() -> dict[str, dict[bytes, tuple[float, ...]]]:
    """What the cache of reference values holds, by file."""
    found = {}
    for path in sorted((home() / "cache" / "reference").glob("*.safetensors")):
        stored = load_file(path)
        pairs = zip(stored["keys"], stored["values"], strict=True)
        found[path.name] = {key.tobytes(): tuple(value) for key, value in pairs}
    return found


@pytest.mark.parametrize("kind", ["base", "SFT run"])
def test_the_reference_is_the_same_to_the_bit_after_training(kind, starts, tmp_path):
    run = dpo_run(starts("llama", kind), tmp_path, learning_rate=1e-2, max_steps=2)
    before = cached()
    for path in (home() / "cache" / "reference").iterdir():
        path.unlink()
    again = dpo_run(
        starts("llama", kind),
        tmp_path,
        learning_rate=1e-2,
        max_steps=4,
        output_dir=run.path,
        resume=True,
    )
    assert again.ended.step == 4
    assert abs(losses(again)[-1] - math.log(2)) > 0.1  # the policy has moved
    assert cached() == before != {}


def test_cached_values_are_used_and_belong_to_data_base_adapter_and_dtype(starts, tmp_path):
    base = starts("llama", "base")
    first = dpo_run(base, tmp_path)
    (name,) = cached()
    dpo_run(base, tmp_path, dpo_beta=0.5, lora_dim=4, seed=0)
    assert list(cached()) == [name]
    assert len(cached()[name]) == len(ref.pairs(0))

    dpo_run(base, tmp_path, seed=1)
    assert list(cached()) == [name]
    both = {json.dumps(row) for row in [*ref.pairs(0), *ref.pairs(1)]}
    assert len(cached()[name]) == len(both)

    dpo_run(starts("llama", "SFT run"), tmp_path)
    assert len(cached()) == 2
    dpo_run(base, tmp_path, torch_dtype="bfloat16")
    assert len(cached()) == 3
    other = model_folder(tmp_path / "other base", "llama")
    weights = torch_load(other / "model.safetensors")
    save_file(
        {key: value + np.float32(1e-3) for key, value in weights.items()},
        other / "model.safetensors",
        {"format": "pt"},
    )
    dpo_run(other, tmp_path)
    assert len(cached()) == 4

    path = home() / "cache" / "reference" / name
    stored = load_file(path)
    stored["values"][:, 0] += 1.0
    save_file(stored, path)
    poisoned = dpo_run(base, tmp_path)
    assert poisoned.ended.before["loss"] != pytest.approx(first.ended.before["loss"], abs=1e-2)
