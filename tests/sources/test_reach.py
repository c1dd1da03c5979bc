"""What a model's folder leads to: links, pipes, and folders that a service must not open."""

import json
import os
import shutil
from pathlib import Path

import pytest

from luthier.data.reading.read import expand
from luthier.data.tokens.tokenizer_files import read_files
from luthier.errors import LuthierError, ModelError, RunError, SettingsError
from luthier.reach import limited_to
from luthier.runs import RunDirectory
from luthier.service.helper_processes import Helpers
from luthier.sources.source import resolve_source, starter_folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "allowed" / "model"
    shutil.copytree(starter_folder(), folder, ignore=shutil.ignore_patterns("data"))
    return folder


def adapter_on(base: str, folder: Path) -> Path:
    folder.mkdir(parents=True)
    body = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    text = json.dumps({**body, "base_model_name_or_path": base})
    (folder / "adapter_config.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    "name",
    ["chat_template.jinja", "tokenizer_config.json", "tokenizer.json", "generation_config.json"],
)
def test_a_link_out_of_a_models_folder_is_refused(model: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("{}")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(tmp_path / "secret")
    for read in (lambda: read_files(model), lambda: resolve_source(str(model))):
        with pytest.raises(ModelError, match="is a link to"):
            read()


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja", "config.json"])
def test_a_pipe_in_a_models_folder_keeps_nobody_waiting(model: Path, name: str) -> None:
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    for read in (lambda: read_files(model), lambda: resolve_source(str(model))):
        with pytest.raises(ModelError, match="no plain file"):
            read()


def test_links_within_the_folder_and_to_the_hubs_cache_are_fine(
    model: Path, tmp_path: Path
) -> None:
    (model / "tokenizer.json").rename(model / "real.json")
    (model / "tokenizer.json").symlink_to("real.json")
    assert resolve_source(str(model)).base == model
    snapshot, blobs = (
        tmp_path / "models--a--b" / "snapshots" / "1",
        tmp_path / "models--a--b" / "blobs",
    )
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(starter_folder().glob("*.*")):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert resolve_source(str(snapshot)).base == snapshot


@pytest.mark.parametrize("base", ["{outside}", "../../outside", "{link}"])
def test_a_helper_of_the_service_follows_no_adapter_out_of_its_folders(
    model: Path, tmp_path: Path, base: str
) -> None:
    outside, allowed = tmp_path / "outside", tmp_path / "allowed"
    model.rename(outside)
    (allowed / "link").symlink_to(outside)
    named = base.format(outside=outside, link=allowed / "link")
    adapter = adapter_on(named, allowed / "adapter")
    messages = [{"role": "user", "content": "Hello"}]
    with pytest.raises(SettingsError, match="outside the folders of this server"):
        Helpers(reach=[allowed]).call("render", {"model": str(adapter), "messages": messages})
    shown = Helpers(reach=[tmp_path]).call("render", {"model": str(adapter), "messages": messages})
    assert "Hello" in shown["text"]


def test_data_is_opened_within_reach_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "allowed-too"
    for folder in (allowed, other):
        folder.mkdir()
        (folder / "rows.jsonl").write_text('{"text": "x"}\n')
    (allowed / "link.jsonl").symlink_to(other / "rows.jsonl")
    for name, value in limited_to([allowed]).items():
        monkeypatch.setenv(name, value)
    assert expand([str(allowed / "rows.jsonl")])
    for wrong in (other, other / "rows.jsonl", other / "*.jsonl", allowed / "link.jsonl"):
        with pytest.raises(LuthierError, match="outside the folders"):
            expand([str(wrong)])


def test_checkpoints_behind_a_link_are_not_written(tmp_path: Path, luthier_home: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    run.checkpoints.rmdir()
    (tmp_path / "elsewhere").mkdir()
    run.checkpoints.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link to"):
        RunDirectory.create(tmp_path / "run", resume=True)
