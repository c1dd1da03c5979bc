"""Folders that get a name: looked at first, then found wherever a model is named."""

import json
import shutil

import pytest
import torch
from tests.tiny import tiny_model_folder

from luthier.errors import ModelError, ModelNotFoundError, RunExistsError, TokenizerError
from luthier.models.adapter_files import save_adapter
from luthier.models.adapters import attach
from luthier.models.load import load_base
from luthier.sources.at_hand import add_folder
from luthier.sources.local import find_local, forget, local_models, models_folder
from luthier.sources.source import resolve_local, resolve_source


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("added") / "my-model", "qwen3")


def test_an_added_folder_is_found_by_its_name(model):
    added = add_folder(model)
    assert (added.name, added.path, added.kind) == ("my-model", model, "added")
    assert added.num_bytes > 10_000
    assert [one.name for one in local_models()] == ["my-model"]
    for name in ("my-model", "MY-Model"):
        found = resolve_source(name)
        assert (found.name, found.base, found.tokenizer) == (str(model), model, model)
    assert resolve_local("my-model").base == model


def test_a_name_can_be_given_and_taken_away(model):
    add_folder(model, "team/base")
    assert resolve_source("team/base").base == model
    forget("Team/Base")
    assert find_local("team/base") is None
    assert model.is_dir()
    with pytest.raises(ModelNotFoundError, match="no model at hand is called"):
        forget("team/base")


def test_a_name_means_one_folder(model, tmp_path):
    add_folder(model, "mine")
    assert add_folder(model, "mine").path == model
    other = shutil.copytree(model, tmp_path / "other")
    with pytest.raises(RunExistsError, match="mine is already"):
        add_folder(other, "mine")
    shutil.rmtree(other)


def test_a_folder_that_has_gone_gives_its_name_back(model, tmp_path):
    gone = shutil.copytree(model, tmp_path / "gone")
    add_folder(gone, "mine")
    shutil.rmtree(gone)
    assert not find_local("mine").there
    assert add_folder(model, "mine").there


@pytest.mark.parametrize(
    "name", ["starter", "Starter", "a/b/c", "../up", "a b", "-x", "x\\y", "n" * 200]
)
def test_names_that_cannot_be_used(model, name):
    with pytest.raises(ModelError, match="cannot be the name of a model"):
        add_folder(model, name)
    assert local_models() == []


def test_a_name_of_the_gallery_is_for_that_very_model(model):
    with pytest.raises(ModelError, match=r"is not qwen3-0\.6b: hidden_size is 32, not 1024"):
        add_folder(model, "qwen3-0.6b")


def test_an_added_copy_of_a_gallery_model_answers_to_name_and_hub_id(model, monkeypatch):
    from luthier.sources import at_hand

    monkeypatch.setattr(at_hand, "_differences", lambda card, config: [])
    add_folder(model, "Qwen3-0.6B")
    for name in ("qwen3-0.6b", "Qwen/Qwen3-0.6B"):
        found = resolve_source(name)
        assert (found.name, found.base) == ("Qwen/Qwen3-0.6B", model)


def test_an_adapter_finds_its_base_under_an_added_name(model, tmp_path):
    add_folder(model, "mine")
    base = load_base(model, dtype=torch.float32)
    adapters = attach(base, rank=2, alpha=2, targets=["q_proj"], seed=0)
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_adapter(adapters, folder, "mine")
    assert resolve_source(str(folder)).base == model


@pytest.mark.parametrize(
    ("missing", "error"),
    [
        ("config.json", ModelError),
        ("model.safetensors", ModelError),
        ("tokenizer*", TokenizerError),
    ],
)
def test_a_folder_that_is_no_model_gets_no_name(model, tmp_path, missing, error):
    folder = shutil.copytree(model, tmp_path / "m")
    for path in folder.glob(missing):
        path.unlink()
    with pytest.raises(error):
        add_folder(folder)
    assert local_models() == []


def test_a_tokenizer_that_does_not_fit_is_refused(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": 100}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match="the model embeds 100"):
        add_folder(folder)


def test_a_damaged_entry_says_which_file(model):
    add_folder(model, "mine")
    (entry,) = (models_folder() / "registry").iterdir()
    entry.write_text("{")
    with pytest.raises(ModelError, match="does not say where a model is") as caught:
        find_local("mine")
    assert str(entry) in caught.value.fix
