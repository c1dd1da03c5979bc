"""The same work for every side of a comparison: model, adapter, rows, token ids, order of samples.

luthier is given the rows and makes the rest itself, as a user would have it; the others are given
the token ids, loss masks, order and adapter start that luthier makes from the same seed.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from luthier.config import read
from luthier.data.load import load_samples
from luthier.data.packing.steps import StepPlanner
from luthier.data.prepare import prepare
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.models.adapter_files import save_adapter
from luthier.models.adapters import attach
from luthier.models.load import load_base
from luthier.recipes.before.opening import make_renderer
from luthier.sources.source import resolve_source

CHECKOUT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("LUTHIER_SHARED", CHECKOUT.parent / "shared" / "data"))
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


@dataclass(frozen=True)
class Work:
    """What is trained, and how; equal on all sides."""

    rows: str  # file below the shared data
    num_rows: int
    objective: str = "sft"
    dtype: str = "float32"
    batch: int = 4
    steps: int = 20
    rank: int = 32
    seq_length: int = 1024
    learning_rate: float = 2e-4
    seed: int = 0
    threads: int = 2
    hidden: int = 512
    layers: int = 8
    heads: int = 8
    kv_heads: int = 4
    intermediate: int = 1408

    @property
    def settings(self) -> dict[str, Any]:
        """As luthier's settings; where a program is not asked, its defaults stay."""
        return {
            "model": "model",
            "dataset": "rows.json",
            "objective": self.objective,
            "torch_dtype": self.dtype,
            "per_device_train_batch_size": self.batch,
            "max_steps": self.steps,
            "lora_dim": self.rank,
            "lora_alpha": self.rank,
            "lora_dropout": 0.0,
            "seq_length": self.seq_length,
            "learning_rate": self.learning_rate,
            "lr_scheduler_type": "constant",
            "warmup_ratio": 0.0,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "logging_steps": 1,
            "seed": self.seed,
        }

    def save(self, folder: Path) -> None:
        """Write everything that the sides need into a folder."""
        torch.set_num_threads(self.threads)
        rows = json.loads((SHARED / self.rows).read_text("utf-8"))[: self.num_rows]
        (folder / "rows.json").write_text(json.dumps(rows))
        (folder / "work.json").write_text(json.dumps(asdict(self)))
        _save_model(self, folder / "model")
        (folder / "samples.json").write_text(json.dumps(_samples(self, folder)))
        model = load_base(folder / "model", dtype=torch.float32)
        adapters = attach(model, rank=self.rank, alpha=self.rank, targets=TARGETS, seed=self.seed)
        (folder / "adapter").mkdir()
        save_adapter(adapters, folder / "adapter", str(folder / "model"))

    @classmethod
    def load(cls, folder: Path) -> "Work":
        """Back from `save`."""
        return cls(**json.loads((folder / "work.json").read_text()))


def _save_model(work: Work, folder: Path) -> None:
    tokenizer = SHARED / "tokenizers" / "llama2"
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=work.hidden,
        num_hidden_layers=work.layers,
        num_attention_heads=work.heads,
        num_key_value_heads=work.kv_heads,
        intermediate_size=work.intermediate,
        max_position_embeddings=4096,
        initializer_range=0.02,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(work.seed)
    LlamaForCausalLM(config).to(DTYPES[work.dtype]).save_pretrained(folder)
    for file in tokenizer.iterdir():
        shutil.copy(file, folder)


def _samples(work: Work, folder: Path) -> list[list[dict[str, Any]]]:
    """Ids and loss mask of each sequence of each sample, in the order of the steps."""
    settings = read.load(
        {**work.settings, "model": str(folder / "model"), "dataset": str(folder / "rows.json")}
    ).settings
    source = resolve_source(str(folder / "model"))
    renderer, _ = make_renderer(
        settings,
        Tokenizer.from_folder(source.tokenizer),
        gallery_template=source.family.chat_template,
        now=datetime.now(UTC),
        seq_length=work.seq_length,
    )
    loaded = load_samples([str(folder / "rows.json")], objective=work.objective)
    examples = prepare(loaded, renderer, bad_rows="refuse").examples
    planner = StepPlanner(
        examples,
        seed=work.seed,
        samples_per_step=work.batch,
        micro_batch_tokens=work.seq_length,
        share=False,
    )
    order = [n for step in range(1, planner.steps_per_epoch + 1) for n in planner.samples(step)]
    return [
        [
            {"ids": s.ids.tolist(), "mask": [int(w > 0) for w in s.weights]}
            for s in examples[n].sequences
        ]
        for n in order
    ]
