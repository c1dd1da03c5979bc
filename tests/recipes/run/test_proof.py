"""A result is opened by transformers in a process of its own, and what differs there is said."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.recipes.conftest import sft_rows, written
from tests.tiny import tiny_model_folder
from transformers import AutoTokenizer

from luthier import children
from luthier.config import read
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Sequence
from luthier.errors import EnvironmentVariableError
from luthier.recipes.after.export import export_adapter, export_merged
from luthier.recipes.after.open_model import open_model
from luthier.recipes.before.proof_wanted import skips_proof
from luthier.recipes.run.train import run
from luthier.recipes.written.proof import Case, prove
from luthier.recipes.written.rows import WrittenRow

TURNS = [{"role": "user", "content": "say 3"}, {"role": "assistant", "content": "it is 3"}]


@pytest.fixture(autouse=True)
def _proven(monkeypatch):
    monkeypatch.setenv("LUTHIER_NO_PROOF", "0")


def trained(path, base, rows, **settings):
    said = []
    given = {"model": str(base), "dataset": written(path / "rows.jsonl", rows), "max_steps": 3}
    given |= {"torch_dtype": "float32", "learning_rate": 0.02, "per_device_train_batch_size": 1}
    given |= {"output_dir": str(path / "run"), **settings}
    ended = run(read.load(given), on_event=said.append)
    by_kind = {kind: [e.text for e in said if e.type == kind] for kind in ("notice", "warning")}  # fmt: skip
    return ended, by_kind


@pytest.mark.parametrize("method", ["full", pytest.param("lora", marks=pytest.mark.slow)])
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


@pytest.mark.slow
def test_a_tokenizer_class_that_splits_otherwise_gives_way_to_the_file(tmp_path):
    base = tiny_model_folder(tmp_path / "base", "qwen2")
    fields = json.loads((base / "tokenizer.json").read_text())
    fields["model"]["merges"] = [["1", "2"]]
    fields["model"]["vocab"]["12"] = len(fields["model"]["vocab"])
    for token in fields["added_tokens"]:
        token["id"] += 1
    (base / "tokenizer.json").write_text(json.dumps(fields))
    config = json.loads((base / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "Qwen2Tokenizer"  # cuts between digits, whatever the file says
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    rows = [{"instruction": f"say 12{n}", "output": f"it is 12{n}"} for n in range(4)]
    ours = Tokenizer.from_folder(base).encode("it is 12").tolist()
    assert AutoTokenizer.from_pretrained(base)("it is 12")["input_ids"] != ours
    ended, said = trained(tmp_path, base, rows)
    assert AutoTokenizer.from_pretrained(ended.result)("it is 12")["input_ids"] == ours
    assert any("PreTrainedTokenizerFast: Qwen2Tokenizer reads" in text for text in said["notice"])
    assert any("ids of 4 training rows equal" in text for text in said["notice"])
    assert not said["warning"]


def test_what_differs_is_said_with_what_mends_it(finished, tmp_path):
    folder = tmp_path / "result"
    shutil.copytree(finished.full.result, folder)
    row = WrittenRow("it is 3", [1, 2, 3], TURNS, "another text", {})
    opened = open_model(str(finished.full.path))
    ids = np.arange(3, 40, dtype=np.int32)
    weights = (np.arange(37) > 5).astype(np.float32)
    with torch.no_grad():
        opened.model.get_output_embeddings().weight.mul_(1.5)
    case = Case(
        folder=folder, kind="model", base=finished.base, rows=[row],
        examples=[Sequence(ids, weights)], model=opened.model, tokenizer=opened.tokenizer,
        ends=[258], dtype="float32", num_bytes=1,
    )  # fmt: skip
    proof = prove(case)
    text = " ".join(proof.differs)
    assert "1 of 1 training rows become other ids; load it with PreTrainedTokenizerFast" in text
    assert "the template makes other text of 1 of 1 rows" in text
    assert "log-probabilities differ by" in text


def test_weights_too_large_to_load_twice_are_compared_by_name_and_shape(finished, tmp_path):
    opened = open_model(str(finished.full.path))
    case = Case(
        folder=finished.full.result, kind="model", base=finished.base, rows=[], examples=[],
        model=opened.model, tokenizer=opened.tokenizer, ends=[258], dtype="float32",
        num_bytes=16 * 10**9,
    )  # fmt: skip
    short = tmp_path / "short"
    shutil.copytree(finished.full.result, short)
    state = load_file(short / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, short / "model.safetensors", metadata={"format": "pt"})
    (line,) = prove(dataclasses.replace(case, folder=short)).differs
    assert "model.norm.weight" in line


def test_the_judge_knows_nothing_of_luthier(finished, tmp_path):
    request = {"folder": str(finished.full.result), "kind": "model", "rows": [], "load": False}
    done = children.run("luthier.recipes.written.judge", text=json.dumps(request), timeout_s=300)
    answer = json.loads(done.out.splitlines()[-1])
    assert answer["weights"] == {"shapes": []}
    assert set(answer["of_luthier"]) <= {
        "luthier", "luthier.child", "luthier.recipes", "luthier.recipes.written",
    }  # fmt: skip


def test_junk_in_the_variable_is_refused_and_yes_leaves_the_proof_out(
    finished, monkeypatch, tmp_path
):
    monkeypatch.setenv("LUTHIER_NO_PROOF", "maybe")
    with pytest.raises(EnvironmentVariableError, match="neither yes nor no"):
        skips_proof()
    monkeypatch.setenv("LUTHIER_NO_PROOF", "1")
    assert export_adapter(str(finished.sft.path), tmp_path / "out").notices == ()
    assert "Opened by others" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("to", ["adapter", pytest.param("merged", marks=pytest.mark.slow)])
def test_an_export_to_a_relative_place_is_proven_too(finished, tmp_path, to, monkeypatch):
    export = export_adapter if to == "adapter" else export_merged
    monkeypatch.chdir(tmp_path)
    found = export(str(finished.sft.path), Path("out"))
    (line,) = [text for text in found.notices if text.startswith("opened in transformers")]
    assert "ids of 4 training rows equal" in line
    if to == "merged":
        assert "log-probabilities equal within" in line
    assert line in (found.path / "README.md").read_text()
