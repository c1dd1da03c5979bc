"""A run that dies while it writes its result: what is there is whole or absent, and the rest is the same."""

import pytest
import torch
from tests.faults import FaultyFiles, Killed
from tests.recipes.conftest import sft_rows, written
from tests.tiny import tiny_model_folder

from luthier.config import read
from luthier.durable import using
from luthier.recipes.run.train import run

DATED = {"manifest.json", "README.md", "rendering.json"}
"""Files that hold when the run was begun."""


class KilledInResult(FaultyFiles):
    """Dies `behind` operations after the first one on the result that is being written."""

    def __init__(self, behind):
        super().__init__(fail_at=-1, mode="killed")
        self.behind = behind

    def mkdir(self, path):
        if "result" in path.name and self.fail_at < 0:
            self.fail_at = self.count + 1 + self.behind
        super().mkdir(path)


def whole(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name not in DATED
    }


def test_a_kill_at_any_stage_of_the_result_changes_no_byte_of_it(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    given = {
        "model": str(tiny_model_folder(tmp_path / "base", tie=True)),
        "dataset": written(tmp_path / "rows.jsonl", sft_rows(range(8))),
        "per_device_train_batch_size": 4,
        "torch_dtype": "float32",
        "max_steps": 2,
        "lora_dim": 2,
    }
    untouched = run(read.load({**given, "output_dir": str(tmp_path / "untouched")}))
    wanted = whole(untouched.path / "result")
    assert "adapter_model.safetensors" in wanted
    inside = 0
    for behind in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55):
        here = tmp_path / f"killed-{behind}"
        words = {**given, "output_dir": str(here)}
        with using(KilledInResult(behind)), pytest.raises(Killed):
            run(read.load(words))
        left = whole(here / "result") if (here / "result").exists() else {}
        assert left in ({}, wanted), behind
        inside += not left
        run(read.load({**words, "resume": True}))
        assert whole(here / "result") == wanted, behind
    assert inside >= 5
    torch.set_num_threads(threads)
