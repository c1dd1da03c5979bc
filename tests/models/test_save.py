"""Whole models on disk: read back equal, by us and by transformers, merged and tied as they are."""

import json

import pytest
import torch
from tests.tiny import FAMILIES, tiny_model_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from luthier.errors import ModelError, NonFiniteError
from luthier.models.adapters import attach
from luthier.models.build import generation_mode
from luthier.models.load import load_base
from luthier.models.quantise import Quantisation
from luthier.models.save import copy_tokenizer, save_model
from luthier.sources.check import read_config

IDS = torch.arange(3, 27)[None]


def logits(model):
    with torch.no_grad(), generation_mode(model):
        return model(IDS).logits


@pytest.mark.parametrize(
    ("family", "tie"),
    [(family, False) for family in FAMILIES]
    + [(f, True) for f in ("llama", "gpt2", "gemma3", "mixtral")],
)
def test_a_saved_model_reads_back_equal(tmp_path, family, tie):
    folder = tiny_model_folder(tmp_path / "base", family, tie=tie)
    model = load_base(folder, dtype=torch.float32)
    (tmp_path / "saved").mkdir()
    save_model(model, tmp_path / "saved", config=read_config(folder), shard_bytes=20_000)
    again = load_base(tmp_path / "saved", dtype=torch.float32)
    assert torch.equal(logits(again), logits(model))
    theirs, info = AutoModelForCausalLM.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not any(info.values())
    assert (tmp_path / "saved" / "model.safetensors.index.json").is_file()
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    dropout = "attn_pdrop" if family == "gpt2" else "attention_dropout"
    assert config[dropout] == 0.1, "the base's own fields are kept"
    assert theirs.config.tie_word_embeddings == tie


@pytest.mark.parametrize("quantisation", [None, Quantisation()])
@pytest.mark.parametrize("whole", [[], ["lm_head"], ["embed_tokens", "lm_head"]])
def test_a_merged_model_reads_back_equal_and_is_tied_no_more(tmp_path, quantisation, whole):
    folder = tiny_model_folder(tmp_path / "base", tie=True)
    model = load_base(folder, dtype=torch.float32, quantisation=quantisation)
    adapters = attach(model, rank=4, alpha=4, targets=["q_proj"], modules_to_save=whole, seed=0)
    with torch.no_grad():
        for _, weight in adapters.named_trained():
            weight += 0.1 * torch.randn_like(weight)
    adapters.merge()
    expected = logits(model)
    (tmp_path / "saved").mkdir()
    save_model(model, tmp_path / "saved", config=read_config(folder))
    again = load_base(tmp_path / "saved", dtype=torch.float32)
    assert torch.equal(logits(again), expected)
    assert again.config.tie_word_embeddings == (not whole)


def test_a_model_with_an_adapter_or_with_nan_is_not_saved(tmp_path):
    folder = tiny_model_folder(tmp_path / "base")
    model = load_base(folder, dtype=torch.float32)
    adapters = attach(model, rank=4, alpha=4, targets=["q_proj"], seed=0)
    with pytest.raises(ModelError, match="still carry an adapter"):
        save_model(model, tmp_path, config=read_config(folder))
    adapters.merge()
    with torch.no_grad():
        model.model.norm.weight[3] = float("inf")
    with pytest.raises(NonFiniteError, match=r"model\.norm\.weight"):
        save_model(model, tmp_path, config=read_config(folder))
    assert not list(tmp_path.glob("*.safetensors"))


def test_tokenizer_files_go_along(tmp_path):
    folder = tiny_model_folder(tmp_path / "base")
    (tmp_path / "saved").mkdir()
    names = copy_tokenizer(folder, tmp_path / "saved", template="{{ messages[0]['content'] }}!")
    assert names == ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert (
        tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi!"
    )
