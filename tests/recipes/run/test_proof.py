"""A result is opened by transformers in a process of its own, and what differs there is said."""

import pytest
from tests.recipes.conftest import sft_rows, written
from tests.tiny import tiny_model_folder

from luthier.config import read
from luthier.recipes.run.train import run


@pytest.fixture(autouse=True)
def _proven(monkeypatch):
    monkeypatch.setenv("LUTHIER_NO_PROOF", "0")


def trained(path, base, rows, **settings):
    said = []
    given = {"model": str(base), "dataset": written(path / "rows.jsonl", rows), "max_steps": 3}
    given |= {"torch_dtype": "float32", "learning_rate": 0.02, "per_device_train_batch_size": 1}
    given |= {"output_dir": str(path / "run"), **settings}
    ended = run(read.load(given), on_event=said.append)
    by_kind = {kind: [e.fields["text"] for e in said if e.type == kind] for kind in ("notice", "warning")}  # fmt: skip
    return ended, by_kind


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_others_read_is_said_and_in_the_card(tmp_path, method):
    base = tiny_model_folder(tmp_path / "base")
    ended, said = trained(tmp_path, base, sft_rows(range(6)), method=method)
    (line,) = [text for text in said["notice"] if text.startswith("opened in transformers")]
    assert "ids of 4 training rows equal" in line
    assert "the template renders the same text" in line
    assert "log-probabilities equal within" in line
    assert "<|im_end|>" in line
    assert not said["warning"]
    assert f"- {line}" in (ended.result / "README.md").read_text()
