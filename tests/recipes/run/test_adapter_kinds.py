"""A whole run with an adapter that took the base's directions: resumed and merged."""

import json
import shutil

from tests.invariants import reference as ref
from tests.tiny import tiny_model_folder

import luthier
from luthier.recipes.after.export import export_merged
from luthier.sources.adapter_config import read_adapter_config


def test_a_pissa_run_is_resumed_to_the_bit_and_merges_onto_the_published_base(tmp_path):
    folder = tiny_model_folder(tmp_path / "model", "qwen2")
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"messages": row}) + "\n" for row in ref.conversations(3, count=8)]
    rows.write_text("".join(lines))
    settings = {
        "model": folder, "dataset": rows, "lora_dim": 4, "max_steps": 4, "save_steps": 2,
        "per_device_train_batch_size": 4, "learning_rate": 1e-3, "init_lora_weights": "pissa",
        "output_dir": tmp_path / "run", "loraplus_lr_ratio": 4.0, "neftune_noise_alpha": 5.0,
        "torch_dtype": "float32",
    }  # fmt: skip
    run = luthier.train(**settings)
    weights = (run.result / "adapter_model.safetensors").read_bytes()
    assert read_adapter_config(run.result)["r"] == 8
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    again = luthier.train(**settings, resume=True)
    assert (again.result / "adapter_model.safetensors").read_bytes() == weights
    merged = export_merged(str(run.path), tmp_path / "merged", torch_dtype="float32")
    assert merged.merge_error is not None
    assert merged.merge_error < 1e-3
