"""Preference losses by TRL: same ids, same order, same weights at the start, step by step."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.invariants import reference as ref
from tests.tiny import tiny_model_folder

import luthier
from luthier.data.packing.steps import permutation
from luthier.recipes.after.evaluate import evaluate_model

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS, STEPS, STEP = 8, 20, 4
GATE = 1e-4
PLAIN = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|im_end|>' }}{% endif %}{% endfor %}"
)
"""A prompt is its text and an answer its text and the end: what TRL makes of plain rows."""

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sigmoid_norm": (
        {"dpo_loss_type": "sigmoid_norm", "dpo_beta": 3.0},
        {"loss_type": ["sigmoid_norm"], "beta": 3.0},
    ),
    "hinge": ({"dpo_loss_type": "hinge", "dpo_beta": 0.3}, {"loss_type": ["hinge"], "beta": 0.3}),
    "robust": (
        {"dpo_loss_type": "robust", "dpo_beta": 0.3, "dpo_label_smoothing": 0.2},
        {"loss_type": ["robust"], "beta": 0.3, "label_smoothing": 0.2},
    ),
    "with SFT": (
        {"dpo_beta": 0.3, "dpo_sft_weight": 0.5},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "beta": 0.3},
    ),
    "simpo": (
        {"dpo_loss_type": "simpo", "simpo_gamma": 0.7},
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.7, "cpo_alpha": 0.0},
    ),
    "orpo": ({"dpo_loss_type": "orpo", "dpo_beta": 0.5}, {"beta": 0.5}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tiny_model_folder(tmp_path_factory.mktemp("model"), "llama")
    config = json.loads((path / "config.json").read_text())
    # TRL would train with the dropout of the config; ours has none whatever the config says.
    (path / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.0}))
    return path


def ours(folder: Path, rows: list[dict[str, Any]], work: Path, **given: Any) -> luthier.Run:
    data = work / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "objective": "dpo", "method": "full", "torch_dtype": "float32", "max_steps": STEPS,
        "per_device_train_batch_size": STEP, "learning_rate": 1e-3, "warmup_ratio": 0.0,
        "lr_scheduler_type": "linear", "chat_template": PLAIN, **given,
    }  # fmt: skip
    return luthier.train(model=folder, dataset=data, output_dir=work / "run", **settings)


def theirs(
    trainer: Any, config: Any, folder: Path, rows: list[dict[str, Any]], work: Path, **given: Any
) -> list[float]:
    """What a trainer of TRL logs; one row at a time, so that its means over a batch are ours."""
    datasets = pytest.importorskip("datasets")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments = {
        "output_dir": str(work / "trl"), "max_steps": STEPS, "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": STEP, "learning_rate": 1e-3, "lr_scheduler_type": "linear",
        "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0, "logging_steps": 1,
        "save_strategy": "no", "report_to": "none", "train_sampling_strategy": "sequential",
        "gradient_checkpointing": False, "bf16": False, "use_cpu": True, "disable_tqdm": True,
        "max_length": None, **given,
    }  # fmt: skip
    made = trainer(
        model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        args=config(**arguments),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    made.train()
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


def in_order(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    epochs = range(count // len(rows))
    return [rows[at] for epoch in epochs for at in permutation(len(rows), seed=0, epoch=epoch)]


def compare(name: str, run: luthier.Run, expected: list[float]) -> None:
    found = [event["loss"] for event in run.events() if event["type"] == "step"]
    assert len(found) == len(expected) == STEPS
    errors = [abs(a - b) for a, b in zip(found, expected, strict=True)]
    print(f"TRL {name}: {found[0]:.4f} to {found[-1]:.4f}, at most {max(errors):.1e} apart")  # noqa: T201
    assert abs(found[0] - found[-1]) > 0.02  # something was learned
    assert max(errors) <= GATE


@pytest.mark.parametrize("name", CASES)
def test_a_pair_loss_follows_trl_step_by_step(folder, tmp_path, name):
    trl = pytest.importorskip("trl")
    mine, other = CASES[name]
    rows = ref.pairs(5, count=ROWS)
    trainer, config = trl.DPOTrainer, trl.DPOConfig
    if name == "simpo":
        from trl.experimental.cpo import CPOConfig as config  # noqa: N813
        from trl.experimental.cpo import CPOTrainer as trainer  # noqa: N813
    if name == "orpo":
        from trl.experimental.orpo import ORPOConfig as config  # noqa: N813
        from trl.experimental.orpo import ORPOTrainer as trainer  # noqa: N813

        # TRL learns the prompt as well: with prompts of one token there is nothing to learn.
        rows = [{**row, "prompt": row["prompt"][0]} for row in rows]
    expected = theirs(trainer, config, folder, in_order(rows, STEPS * STEP), tmp_path, **other)
    run = ours(folder, rows, tmp_path, **mine)
    compare(name, run, expected)
    scored = any(event["type"] == "reference" for event in run.events())
    assert scored == (name not in ("simpo", "orpo"))
    if name == "orpo":  # measured afterwards by the same loss, without a reference too
        figures = evaluate_model(str(run.path), [str(tmp_path / "rows.jsonl")]).figures["model"]
        assert figures["loss"] < expected[-1]
        assert figures["rewards_accuracy"] == 1.0


def test_kto_follows_trl_step_by_step(folder, tmp_path):
    trl = pytest.importorskip("trl")
    rows = [
        {"prompt": row["prompt"], "completion": row["chosen"], "label": at % 3 > 0}
        for at, row in enumerate(ref.pairs(6, count=ROWS))
    ]
    # One step is all rows: TRL then takes mismatched answers in the order ours come in.
    order = [rows[at] for at in permutation(ROWS, seed=0, epoch=0)] * STEPS
    one = {"per_device_train_batch_size": ROWS, "gradient_accumulation_steps": 1}
    weighted = {"beta": 0.3, "desirable_weight": 1.2}
    expected = theirs(trl.KTOTrainer, trl.KTOConfig, folder, order, tmp_path, **one, **weighted)
    run = ours(
        folder,
        rows,
        tmp_path,
        objective="kto",
        per_device_train_batch_size=ROWS,
        dpo_beta=0.3,
        kto_desirable_weight=1.2,
        micro_batch_tokens=60,  # the divergence is that of the step, whatever the cut
    )
    compare("kto", run, expected)
    steps = [event for event in run.events() if event["type"] == "step"]
    assert steps[0]["metrics"]["kl"] < 1e-4
    assert steps[-1]["metrics"]["kl"] > 1e-3
    assert steps[-1]["unit"] == "row"
    figures = evaluate_model(str(run.path), [str(tmp_path / "rows.jsonl")]).figures["model"]
    assert figures["loss"] < expected[-1]
    assert figures["rewards_margins"] > 0.5
