"""What `model` may name, and what becomes of it."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tests.tiny import tiny_model_folder, tiny_tokenizer

from luthier.errors import AdapterError, ModelError, ModelNotFoundError
from luthier.models.adapter_files import load_adapter, save_adapter
from luthier.models.adapters import attach
from luthier.models.load import load_base
from luthier.runs import RunDirectory
from luthier.sources import at_hand
from luthier.sources.source import resolve_source


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches for the network, as a user would say it."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def adapter_folder(path: Path, base: Path, base_name: str) -> Path:
    adapters = attach(
        load_base(base, dtype=torch.float32), rank=2, alpha=2, targets=["q_proj"], seed=0
    )
    path.mkdir(parents=True)
    save_adapter(adapters, path, base_name)
    return path


def finished_run(path: Path, model: str, base: Path) -> RunDirectory:
    run = RunDirectory.create(path)
    run.settings_file.write_text(
        json.dumps({"settings": {"model": model}, "provenance": {}, "notices": []})
    )
    adapter_folder(run.result, base, "org/base")
    tiny_tokenizer(run.result)
    return run


def test_a_folder_is_its_own_base_and_tokenizer(tmp_path):
    folder = tiny_model_folder(tmp_path / "m", "qwen3")
    found = resolve_source(str(folder))
    assert (found.name, found.base, found.tokenizer) == (str(folder), folder, folder)
    assert (found.adapter, found.run, found.family.name) == (None, None, "qwen3")
    assert found.config["model_type"] == "qwen3"


@pytest.mark.parametrize("relative", [False, True])
def test_an_adapter_brings_its_base(tmp_path, relative):
    folder = tiny_model_folder(tmp_path / "base")
    adapter = adapter_folder(tmp_path / "adapter", folder, "../base" if relative else str(folder))
    found = resolve_source(str(adapter))
    assert found.base.resolve() == folder
    assert found.adapter == adapter
    assert found.tokenizer.resolve() == folder
    load_adapter(load_base(found.base, dtype=torch.float32), adapter)


def test_a_run_is_its_adapter_on_the_base_of_its_settings(tmp_path):
    folder = tiny_model_folder(tmp_path / "base")
    run = finished_run(tmp_path / "runs" / "first", str(folder), folder)
    for name in (str(run.path), "first"):
        found = resolve_source(name)
        assert (found.base, found.adapter, found.run) == (folder, run.result, run.path)
        assert found.tokenizer == run.result
    second = finished_run(tmp_path / "runs" / "second", str(run.path), folder)
    assert resolve_source("second").base == folder
    assert resolve_source("second").adapter == second.result


def test_a_run_of_full_training_is_a_model(tmp_path):
    run = RunDirectory.create(tmp_path / "whole")
    tiny_model_folder(run.result)
    found = resolve_source(str(run.path))
    assert (found.base, found.adapter, found.run) == (run.result, None, run.path)


def test_a_run_without_result_says_how_to_go_on(tmp_path):
    run = RunDirectory.create(tmp_path / "early")
    with pytest.raises(ModelNotFoundError, match="no result yet") as caught:
        resolve_source(str(run.path))
    assert "--resume true" in caught.value.fix


@pytest.mark.parametrize(
    "base", ["https://example.org/model", "/home/somebody/else/model", "C://models/x"]
)
def test_a_base_elsewhere_is_never_fetched(tmp_path, base):
    adapter = adapter_folder(tmp_path / "adapter", tiny_model_folder(tmp_path / "base"), base)
    with pytest.raises(AdapterError, match="which is not here") as caught:
        resolve_source(str(adapter))
    assert str(adapter / "adapter_config.json") in caught.value.fix


def test_an_adapter_starts_no_download(tmp_path, monkeypatch):
    adapter = adapter_folder(
        tmp_path / "adapter", tiny_model_folder(tmp_path / "base"), "org/unknown-base"
    )
    with pytest.raises(AdapterError, match="which is not on this machine") as caught:
        resolve_source(str(adapter))
    assert caught.value.fix == "luthier gallery pull org/unknown-base"


def test_an_adapter_on_an_adapter_is_refused(tmp_path):
    folder = tiny_model_folder(tmp_path / "base")
    first = adapter_folder(tmp_path / "first", folder, str(folder))
    second = adapter_folder(tmp_path / "second", folder, str(first))
    with pytest.raises(AdapterError, match="is an adapter itself"):
        resolve_source(str(second))


def test_an_adapter_on_itself_ends(tmp_path):
    adapter = adapter_folder(tmp_path / "a", tiny_model_folder(tmp_path / "base"), "x")
    path = adapter / "adapter_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(adapter)})
    )
    with pytest.raises(ModelError):
        resolve_source(str(adapter))


@pytest.mark.parametrize(
    "name", ["qwen3-8", "Qwen3-8b-instruct", "lama-2-7b", "", "a/b/c", "file:///etc"]
)
def test_unknown_names_give_the_nearest_of_the_gallery(name):
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_source(name)
    assert "luthier gallery list; nearest: " in caught.value.fix
    if "3-8" in name:
        assert "qwen3-8b" in caught.value.fix


def test_a_hub_id_that_cannot_be_fetched_says_so():
    with pytest.raises(ModelNotFoundError, match=r"Qwen/Qwen3-0\.6B cannot be fetched") as caught:
        resolve_source("qwen3-0.6b")
    assert "local folder" in caught.value.fix


def test_a_hub_id_in_the_cache_needs_no_network(tmp_path, monkeypatch):
    folder = tiny_model_folder(tmp_path / "cached", "qwen3")
    monkeypatch.setattr(at_hand, "cached", lambda hub, revision: folder)
    found = resolve_source("qwen3-0.6b")
    assert (found.name, found.base) == ("Qwen/Qwen3-0.6B", folder)


def test_a_file_is_not_a_model(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match="is a file"):
        resolve_source(str(tmp_path / "model.gguf"))


def test_a_base_is_named_so_that_peft_finds_it_from_anywhere(tmp_path, monkeypatch):
    """A gallery name or a relative folder would be asked of the hub."""
    folder = tiny_model_folder(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    assert resolve_source("base").base_for_others == str(folder)
    starter = resolve_source("starter")
    assert (Path(starter.base_for_others) / "config.json").is_file()
    assert dataclasses.replace(starter, name="org/base").base_for_others == "org/base"


def test_the_starter_is_found_where_an_installation_has_moved(tmp_path):
    folder = resolve_source("starter").base
    adapter = adapter_folder(tmp_path / "a", folder, "/another/place/luthier/starter")
    assert resolve_source(str(adapter)).base == folder
