"""What is trained, which of it decays, and what has to be said of a model whose pair is tied."""

import pytest
import torch
from tests.tiny import tiny_model_folder

from luthier.config import read
from luthier.engine.optim import Updater
from luthier.recipes.run.trainee import make_trainee
from luthier.sources.source import resolve_source


def trainee_of(path, family="llama", *, tie=False, **settings):
    folder = tiny_model_folder(path, family, tie=tie)
    given = {"model": str(folder), "dataset": "rows.jsonl", "lora_dim": 4, **settings}
    if given.get("method") == "full":
        given.pop("lora_dim")
    found = read.load(given).settings
    return make_trainee(found, resolve_source(str(folder)), torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    ("family", "settings", "kept"),
    [
        ("llama", {"modules_to_save": ["embed_tokens"]}, {"embed_tokens"}),
        ("llama", {"modules_to_save": ["embed_tokens", "lm_head"]}, {"embed_tokens"}),
        ("gemma2", {"modules_to_save": ["embed_tokens"]}, {"embed_tokens"}),
        ("llama", {"method": "full"}, {"embed_tokens"}),
        ("gpt2", {"method": "full"}, {"wte", "wpe"}),
    ],
)
def test_no_row_of_a_trained_embedding_decays(tmp_path, family, settings, kept):
    trainee = trainee_of(tmp_path, family, **settings)
    updater = Updater(trainee.trained, weight_decay=0.5, no_decay=trainee.no_decay)
    updater.allocate()
    before = {name: weight.detach().clone() for name, weight in trainee.trained.items()}
    for weight in trainee.trained.values():
        weight.grad = torch.zeros_like(weight)
    updater.apply(0.1)
    still = {name for name, weight in trainee.trained.items() if torch.equal(weight, before[name])}
    matrices = {name for name in still if before[name].dim() > 1 and before[name].abs().sum() > 0}
    assert {part for name in matrices for part in name.split(".") if part in ("embed_tokens", "wte", "wpe", "lm_head")} == kept  # fmt: skip
    moved = set(before) - still
    assert moved  # other matrices do decay


@pytest.mark.parametrize(("tie", "whole", "said"), [(True, "lm_head", 1), (False, "lm_head", 0)])
def test_a_tied_pair_that_training_makes_two_matrices_is_named_once(tmp_path, tie, whole, said):
    trainee = trainee_of(tmp_path, tie=tie, modules_to_save=[whole])
    assert sum("makes them two" in text for text in trainee.report) == said
    assert not any("makes them two" in t for t in trainee_of(tmp_path / "b", tie=tie).report)
