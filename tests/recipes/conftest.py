"""Small finished runs that several tests look at: SFT, DPO on top of it, and every weight trained."""

import json
from types import SimpleNamespace

import pytest
import torch
from tests.tiny import tiny_model_folder

from luthier.config import read
from luthier.recipes.run.train import run

TRAIN, HELD = range(12), range(12, 18)


def sft_rows(numbers):
    return [{"instruction": f"say {n}", "output": f"it is {n}"} for n in numbers]


def pair_rows(numbers):
    return [{"prompt": f"say {n}", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in numbers]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """`sft`, `dpo` (on top of it) and `full` (DPO of every weight), with their data and base."""
    here = tmp_path_factory.mktemp("finished")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    base = tiny_model_folder(here / "base", tie=True)
    files = {
        "sft": written(here / "sft.jsonl", sft_rows(TRAIN)),
        "sft_held": written(here / "sft_held.jsonl", sft_rows(HELD)),
        "pairs": written(here / "pairs.jsonl", pair_rows(TRAIN)),
        "pairs_held": written(here / "pairs_held.jsonl", pair_rows(HELD)),
    }

    def trained(name, **settings):
        given = {"output_dir": str(here / name), "per_device_train_batch_size": 4, **settings}
        given = {"torch_dtype": "float32", "max_steps": 6, "lora_dim": 4, **given}
        if settings.get("method") == "full" or name == "dpo":
            given.pop("lora_dim")
        return run(read.load(given))

    sft = trained(
        "sft", model=str(base), dataset=files["sft"], eval_dataset=files["sft_held"],
        learning_rate=0.02,
    )  # fmt: skip
    pairs = {"dataset": files["pairs"], "eval_dataset": files["pairs_held"], "objective": "dpo"}
    dpo = trained("dpo", model=str(sft.path), learning_rate=0.005, **pairs)
    full = trained("full", model=str(base), method="full", learning_rate=0.001, **pairs)
    torch.set_num_threads(threads)
    return SimpleNamespace(base=base, files=files, sft=sft, dpo=dpo, full=full)
