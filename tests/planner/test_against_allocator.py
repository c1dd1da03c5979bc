"""The closed form against the allocator's own record of real steps, on small shapes."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model_folder
from torch.profiler import ProfilerActivity, profile

from luthier.config import read
from luthier.data.packing.steps import StepPlanner
from luthier.data.types import Example, Origin, Sequence
from luthier.engine.distribution import Ranks
from luthier.engine.loop import train
from luthier.engine.optim import Updater
from luthier.planner.activations import moments
from luthier.planner.data_shape import DataShape, StepShape
from luthier.planner.device import this_machine
from luthier.planner.plan import how_of
from luthier.planner.shape import Shape
from luthier.recipes.run.assembly import OPTIMISERS
from luthier.recipes.run.devices import DTYPES
from luthier.recipes.run.objective import PairObjective, TokenObjective
from luthier.recipes.run.steps import Cutter, StepSource
from luthier.recipes.run.trainee import make_trainee
from luthier.sources.source import resolve_source

FIELDS = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 1024,
    "vocab": 4096,
}
ROWS, LENGTH = 8, 160
NOT_A_STEP = ("loading", "evaluation", "saving")


def examples(pairs):
    draw = np.random.default_rng(0)
    made = []
    for number in range(2 * ROWS):
        prompt = draw.integers(0, 4096, LENGTH // 2)
        sequences = []
        for _ in range(2 if pairs else 1):
            ids = np.concatenate([prompt, draw.integers(0, 4096, LENGTH // 2)]).astype(np.int32)
            weights = (np.arange(LENGTH) >= LENGTH // 2).astype(np.float32)
            sequences.append(Sequence(ids, weights))
        made.append(Example(tuple(sequences), Origin("rows.jsonl", number + 1)))
    return made


def two_steps(settings, folder, rows):
    """Two optimiser steps; the most bytes held in them, the model included."""
    given = read.load(settings).settings
    trainee = make_trainee(
        given, resolve_source(str(folder)), DTYPES[given.torch_dtype], torch.device("cpu")
    )
    trainee.ready(checkpointing=given.gradient_checkpointing, seed=0)
    held = {t.data_ptr(): t.nbytes for t in [*trainee.model.parameters(), *trainee.model.buffers()]}
    updater = Updater(
        trainee.trained, optim=OPTIMISERS[given.optim], no_decay=trainee.no_decay, seed=0
    )
    planner = StepPlanner(
        rows,
        seed=0,
        samples_per_step=ROWS,
        micro_batch_tokens=given.micro_batch_tokens,
        share=True,
        max_steps=2,
    )
    cutter = Cutter(
        rows,
        objective=given.objective,
        budget=given.micro_batch_tokens,
        share=True,
        max_sequences=None,
        ranks=Ranks(),
        warn=print,
    )
    steps = StepSource(cutter, planner)
    objective = TokenObjective(trainee)
    if given.objective == "dpo":
        objective = PairObjective(trainee, torch.zeros(len(rows), 2, dtype=torch.float64), given)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        train(
            objective,
            steps.plan,
            updater,
            first_step=1,
            last_step=2,
            learning_rate=lambda step: 1e-4,
            on_step=lambda report: None,
            shrink=steps.shrink,
        )
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return sum(held.values()) + int(np.cumsum(sizes).max())


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"lora_dim": 8}),
        ("llama", {"lora_dim": 8, "gradient_checkpointing": "full"}),
        ("llama", {"lora_dim": 8, "lora_target_modules": "all-linear", "objective": "dpo"}),
        ("llama", {"method": "qlora", "lora_dim": 8, "bnb_4bit_use_double_quant": True}),
        ("llama", {"method": "full"}),
        ("qwen3", {"method": "full", "optim": "adamw_8bit"}),
        ("qwen2", {"method": "qlora", "load_in_8bit": True, "lora_dim": 8}),
        ("phi3", {"lora_dim": 8, "lora_target_modules": "all-linear"}),
        ("gemma2", {"lora_dim": 8}),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_the_peak_is_what_the_allocator_records(tmp_path, family, settings):
    extra = {"tie": True} if family == "qwen3" else {}
    fields = {"pad_token_id": 0, "sliding_window": None} if family == "phi3" else {}
    if family == "gemma2":
        fields = {"head_dim": 32, "sliding_window": 1024}
    folder = tiny_model_folder(tmp_path, family, **FIELDS, **extra, **fields)
    given = {
        "model": str(folder),
        "dataset": "rows.jsonl",
        "torch_dtype": "float32",
        "micro_batch_tokens": 700,
        "share_prefixes": True,
        "gradient_checkpointing": "none",
        "per_device_train_batch_size": ROWS,
        **settings,
    }
    rows = examples(given.get("objective") == "dpo")
    measured = two_steps(given, folder, rows)
    resolved, source = read.load(given).settings, resolve_source(str(folder))
    device = dataclasses.replace(this_machine(), kind="cpu", bf16=False)
    how = how_of(resolved, source.family, device)
    recompute = resolved.gradient_checkpointing == "full"
    predicted = max(
        moment.total
        for work in DataShape.of(rows).largest(StepShape(ROWS, 700)).largest
        for moment in moments(
            Shape.from_config(source.config), how, device, work, recompute=recompute
        )
        if moment.where not in NOT_A_STEP
    )
    if predicted > 1.02 * measured:  # a record that began within an operation lacks what it held
        measured = max(measured, two_steps(given, folder, rows))
    assert predicted == pytest.approx(measured, rel=0.02)
