"""The same training by TRL and PEFT: same ids, same order, same start of the adapter."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.invariants import reference as ref
from tests.invariants.product import make_product, model_folder

import luthier
from luthier.data.packing.steps import permutation

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS, STEPS, BATCH, ACCUMULATION = 20, 20, 2, 2
RATE, DECAY = 2e-3, 0.01
GATE = 1e-5


def ours(folder: Path, data: Path, work: Path) -> list[dict[str, Any]]:
    """The steps of a run."""
    run = luthier.train(
        model=folder,
        dataset=data,
        output_dir=work / "run",
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=ACCUMULATION,
        learning_rate=RATE,
        lr_scheduler_type="linear",
        warmup_ratio=0.0,
        weight_decay=DECAY,
        lora_dim=8,
        lora_alpha=12,
    )
    return [event for event in run.events() if event["type"] == "step"]


def theirs(
    folder: Path, rows: list[dict[str, list[int]]], start: dict[str, torch.Tensor], work: Path
) -> list[dict[str, Any]]:
    """What SFTTrainer logs at each step."""
    trl, peft = pytest.importorskip("trl"), pytest.importorskip("peft")
    datasets = pytest.importorskip("datasets")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapter = peft.LoraConfig(
        r=8, lora_alpha=12, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
    )
    model = peft.get_peft_model(base, adapter)
    own = {name.replace(".default", ""): weight for name, weight in model.named_parameters()}
    with torch.no_grad():
        for name, value in start.items():
            own[name].copy_(value)
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=str(work / "trl"),
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=ACCUMULATION,
            learning_rate=RATE,
            lr_scheduler_type="linear",
            warmup_steps=0,
            weight_decay=DECAY,
            max_grad_norm=1.0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            max_length=None,
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_sft_with_an_adapter_follows_trl_step_by_step(tmp_path):
    folder = model_folder(tmp_path / "model", "llama")
    config = json.loads((folder / "config.json").read_text())
    # TRL would train with the dropout of the config; ours has none whatever the config says.
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.0}))
    rows = ref.conversations(11, count=ROWS)
    product = make_product(folder, rows, tmp_path, lora_dim=8, lora_alpha=12)
    assert product.trainee.adapters is not None
    start = product.trainee.adapters.state()
    spelt = [ref.spell(row, everything=False) for row in rows]
    table = [
        {
            "input_ids": row.ids,
            "labels": [i if w else -100 for i, w in zip(row.ids, row.weights, strict=True)],
        }
        for row in spelt
    ]
    wanted = STEPS * BATCH * ACCUMULATION
    order = [at for epoch in range(wanted // ROWS) for at in permutation(ROWS, seed=0, epoch=epoch)]
    expected = theirs(folder, [table[at] for at in order], start, tmp_path)
    found = ours(folder, tmp_path / "rows.jsonl", tmp_path)
    assert len(found) == len(expected) == STEPS
    errors = [abs(a["loss"] - b["loss"]) for a, b in zip(found, expected, strict=True)]
    norms = [abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in zip(found, expected, strict=True)]
    print(f"TRL: loss differs by at most {max(errors):.1e}, gradient norm {max(norms):.1e}")  # noqa: T201
    assert found[0]["loss"] - found[-1]["loss"] > 0.1
    assert max(errors) <= GATE
    assert max(norms) <= 1e-4
