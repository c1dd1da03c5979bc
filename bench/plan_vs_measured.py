"""Planned against measured peak memory, over configurations of real training runs.

    python -m bench.plan_vs_measured [--only PART_OF_A_NAME] [--missing]

Each configuration trains in a process of its own (forked before any tensor is made, so that the
libraries are imported once): evaluation, an optimiser step, evaluation,
checkpoint and result.  Its peak is
the allocator's own record (`bench.memory_run`).  The exact plan is made from settings, config and
the shapes of the run's micro-batches, in another process; the closed form from the same lengths.
Writes `bench/results/plan_vs_measured.csv` and prints the errors.
"""

import argparse
import csv
import importlib
import json
import os
import statistics
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "plan_vs_measured.csv"
COLUMNS = (
    "name", "family", "fields", "length", "settings", "measured_bytes", "measured_where", "rss_bytes",
    "exact_bytes", "exact_where", "exact_error", "closed_bytes", "closed_where", "closed_error", "exact_cpu_s",
)  # fmt: skip
Config = dict[str, Any]


def _gpt2(width: int, layers: int) -> Config:
    return {"n_embd": width, "n_layer": layers, "n_head": 4, "n_positions": 2048}


def _shape(width: int, layers: int, vocab: int, **more: Any) -> Config:
    return {
        "hidden_size": width,
        "intermediate_size": width * 11 // 4 // 16 * 16,
        "num_hidden_layers": layers,
        "vocab": vocab,
        "max_position_embeddings": 2048,
        **more,
    }


SHAPES: dict[str, tuple[str, Config]] = {
    "llama-256x4": ("llama", _shape(256, 4, 4096)),
    "llama-128x8": ("llama", _shape(128, 8, 512)),
    "llama-64x8": ("llama", _shape(64, 8, 32000, num_key_value_heads=4)),
    "llama-512x3": ("llama", _shape(512, 3, 8192, num_attention_heads=8)),
    "llama-768x2": ("llama", _shape(768, 2, 2048, num_attention_heads=12, num_key_value_heads=4)),
    "qwen2-256x3": ("qwen2", _shape(256, 3, 16000)),
    "qwen3-256x3": ("qwen3", _shape(256, 3, 8192, head_dim=64, tie=True)),
    "gemma2-192x4": (
        "gemma2",
        _shape(192, 4, 4096, head_dim=48, sliding_window=256, query_pre_attn_scalar=48, tie=True),
    ),
    "phi3-256x3": ("phi3", _shape(256, 3, 4096, sliding_window=300)),
    "gpt2-256x4": ("gpt2", {**_gpt2(256, 4), "vocab": 4096, "tie": True}),
    "mixtral-128x3": ("mixtral", _shape(128, 3, 4096)),
    "mistral-256x3": ("mistral", _shape(256, 3, 4096, sliding_window=None)),
}

METHODS: dict[str, Config] = {
    "lora": {"method": "lora", "lora_dim": 8},
    "lora-all": {"method": "lora", "lora_dim": 16, "lora_target_modules": ["all-linear"]},
    "lora-dropout": {"method": "lora", "lora_dim": 8, "lora_dropout": 0.1},
    "lora-8bit-optimiser": {"method": "lora", "lora_dim": 32, "optim": "adamw_8bit"},
    "lora-embeddings": {"method": "lora", "lora_dim": 8, "modules_to_save": ["lm_head"]},
    "full": {"method": "full"},
    "full-8bit-optimiser": {"method": "full", "optim": "adamw_8bit"},
    "full-paged": {"method": "full", "optim": "paged_adamw_32bit"},
    "full-scratch": {"method": "full", "from_scratch": True},
    "qlora4": {"lora_dim": 8, "load_in_4bit": True},
    "qlora4-double": {"lora_dim": 8, "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "qlora8": {"lora_dim": 8, "load_in_8bit": True},
}

PLANNED: tuple[str, ...] = (
    # shape, method, objective, length, then what else is set
    "llama-256x4 lora sft 512", "llama-256x4 lora sft 1024", "llama-256x4 lora sft 512 full",
    "llama-256x4 lora dpo 512", "llama-256x4 lora dpo 512 full", "llama-256x4 lora-all sft 512",
    "llama-256x4 lora-dropout sft 512", "llama-256x4 lora-8bit-optimiser sft 512",
    "llama-256x4 lora-embeddings sft 512", "llama-256x4 full sft 512", "llama-256x4 full sft 512 full",
    "llama-256x4 full dpo 512", "llama-256x4 full dpo 256 full", "llama-256x4 full-8bit-optimiser sft 512",
    "llama-256x4 full-paged sft 256", "llama-256x4 full-scratch sft 512", "llama-256x4 qlora4 sft 512",
    "llama-256x4 qlora4 dpo 512", "llama-256x4 qlora4-double sft 512", "llama-256x4 qlora4 sft 512 full",
    "llama-256x4 qlora8 sft 512", "llama-256x4 qlora8 dpo 512", "llama-256x4 qlora8 sft 512 full",
    "llama-256x4 lora sft 512 bf16", "llama-256x4 full sft 512 bf16", "llama-256x4 qlora4 sft 512 bf16",
    "llama-256x4 lora sft 512 cut", "llama-256x4 full sft 512 cut", "llama-256x4 full dpo 512 cut",
    "llama-128x8 lora sft 512", "llama-128x8 lora dpo 1024", "llama-128x8 full sft 512",
    "llama-128x8 qlora4 sft 1024", "llama-64x8 lora sft 512", "llama-64x8 full sft 256",
    "llama-64x8 lora dpo 512 full", "llama-512x3 lora sft 512", "llama-512x3 lora sft 64",
    "llama-512x3 full sft 256", "llama-512x3 qlora4 sft 256", "llama-512x3 qlora8 dpo 256",
    "llama-768x2 lora sft 512", "llama-768x2 full sft 128", "llama-768x2 qlora4 sft 128 full",
    "llama-768x2 lora dpo 256", "qwen2-256x3 lora sft 512", "qwen2-256x3 full sft 256",
    "qwen2-256x3 lora dpo 512", "qwen2-256x3 qlora4 sft 512", "qwen3-256x3 lora sft 512",
    "qwen3-256x3 full sft 512", "qwen3-256x3 full dpo 256 full", "qwen3-256x3 qlora8 sft 512",
    "gemma2-192x4 lora sft 512", "gemma2-192x4 full sft 512", "gemma2-192x4 lora dpo 512 full",
    "phi3-256x3 lora sft 512", "phi3-256x3 full sft 256", "phi3-256x3 qlora4 sft 512",
    "gpt2-256x4 lora sft 512", "gpt2-256x4 full sft 512", "gpt2-256x4 qlora4 sft 512",
    "mixtral-128x3 lora sft 512", "mixtral-128x3 full sft 256", "mistral-256x3 lora sft 512",
    "mistral-256x3 full dpo 256",
)  # fmt: skip


def config_of(name: str) -> Config:
    """The configuration of a line of `PLANNED`."""
    shape, method, objective, length, *more = name.split()
    family, fields = SHAPES[shape]
    settings: Config = {
        **METHODS[method],
        "objective": objective,
        "torch_dtype": "bfloat16" if "bf16" in more else "float32",
        "gradient_checkpointing": "full" if "full" in more else "none",
        "per_device_train_batch_size": max(2, 1024 // int(length)),
        "micro_batch_tokens": 640 if "cut" in more else 2048,
        "max_steps": 1,
    }
    rows = settings["per_device_train_batch_size"]
    asked = {"name": name, "family": family, "fields": fields, "length": int(length)}
    return {**asked, "rows": rows, "held": 2, "settings": settings}


def apart(work: Callable[[Any], Any], argument: Any) -> Any:
    """A call in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer = {"answer": work(argument)}
        except BaseException:  # noqa: BLE001 - told to the parent, which raises
            answer = {"failed": traceback.format_exc()}
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    said = json.loads(text) if text else {"failed": f"status {status}"}
    if "failed" in said:
        raise RuntimeError(said["failed"])
    return said["answer"]


def compare(asked: Config) -> Config:
    """One row: the run, its exact plan and its closed form."""
    from bench.memory_run import measure

    from luthier.recipes.exact.process import dry_run

    def measured_apart(asked: Config) -> Config:
        os.environ["LUTHIER_HOME"] = tempfile.mkdtemp()
        return measure(asked)

    def exact_apart(run: Config) -> Config:
        before = os.times().user
        answer = dry_run({**run, "dtype": "float32", "device": {"kind": "cpu", "capability": None}})
        return {**answer, "cpu_s": round(os.times().user - before, 2)}

    run = apart(measured_apart, asked)
    exact = apart(exact_apart, run)
    measured = run["measured_bytes"]
    row: Config = {
        "name": asked["name"],
        "family": asked["family"],
        "fields": json.dumps({k: v for k, v in asked["fields"].items() if v is not None}),
        "length": asked["length"],
        "settings": json.dumps(asked["settings"]),
        "measured_bytes": measured,
        "measured_where": run["measured_where"],
        "rss_bytes": run["rss_bytes"],
        "exact_bytes": exact["peak_bytes"],
        "exact_where": exact["peak_where"],
        "exact_error": round(exact["peak_bytes"] / measured - 1, 5),
        "exact_cpu_s": exact["cpu_s"],
    }
    row |= {name: run[name] for name in ("closed_bytes", "closed_where")}
    row["closed_error"] = round(run["closed_bytes"] / measured - 1, 5)
    return row


def main() -> None:
    """Run what is asked for; rows that were measured before and not asked for stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="part of the names to run")
    parser.add_argument("--missing", action="store_true", help="only what has no row yet")
    parser.add_argument("--names", nargs="*", default=PLANNED, help="exact names to run")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the CSV to fill")
    asked = parser.parse_args()
    import torch

    from luthier.kernels.bnb import bitsandbytes

    importlib.import_module("bench.memory_run")
    importlib.import_module("luthier.recipes.exact.process")
    torch.set_num_threads(1)
    bitsandbytes()
    rows = read_rows(asked.out)
    for name in asked.names:
        if asked.only not in name or (asked.missing and name in rows):
            continue
        rows[name] = row = compare(config_of(name))
        print(
            f"{name:44} {row['measured_bytes'] / 2**20:8.1f} MiB {row['measured_where']:14} "
            f"exact {row['exact_error']:+.2%} closed {row['closed_error']:+.2%}",
            flush=True,
        )
        write_rows(rows, asked.out)
    for kind in ("exact", "closed"):
        errors = [abs(float(row[f"{kind}_error"])) for row in rows.values()]
        print(f"{kind}: {len(errors)} rows, mean {statistics.mean(errors):.2%}, {max(errors):.2%}")


def read_rows(path: Path) -> dict[str, Config]:
    """The rows of the CSV by name, those of `PLANNED` alone."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file) if row["name"] in PLANNED}


def write_rows(rows: dict[str, Config], path: Path) -> None:
    """The CSV, in the order of `PLANNED`."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows[name] for name in PLANNED if name in rows)


if __name__ == "__main__":
    main()
