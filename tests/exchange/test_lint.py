"""What other tools refuse or get wrong, said before it is tried there."""

import json

import pytest
import torch
from tests.exchange.test_gguf import folder_of, run_command
from tests.tiny import tiny_model_folder

from luthier.cli.main import main
from luthier.errors import ModelError
from luthier.exchange.gguf_adapter import write_gguf_adapter
from luthier.exchange.gguf_file import write_gguf
from luthier.exchange.lint import check_modelfile, check_path
from luthier.models.adapter_files import save_adapter
from luthier.models.adapters import attach
from luthier.models.load import load_base


def adapter(tmp_path, **given):
    base = tiny_model_folder(tmp_path / "base", "llama")
    model = load_base(base, dtype=torch.float32)
    options = {"rank": 4, "alpha": 8, "targets": ["q_proj"], "seed": 0, **given}
    (tmp_path / "adapter").mkdir()
    save_adapter(attach(model, **options), tmp_path / "adapter", "org/base")
    return tmp_path / "adapter"


def said(found, tool, effect):
    return "; ".join(r.what for r in found.remarks if (r.tool, r.effect) == (tool, effect))


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_plain_adapter_is_served_by_three(tmp_path):
    found = check_path(adapter(tmp_path))
    assert found.kind == "adapter"
    assert said(found, "vllm", "refuses") == said(found, "vllm", "gets wrong") == ""
    assert "--max-lora-rank 8" in found.commands["vllm"]
    assert "vllm serve org/base" in found.commands["vllm"]
    assert "--max-lora-rank 4" in found.commands["sglang"]
    assert set(found.commands) == {"vllm", "sglang", "llama.cpp"}
    for tool in ("ollama", "mlx", "lmstudio"):
        assert said(found, tool, "refuses")


def test_a_rank_that_needs_a_flag(tmp_path):
    found = check_path(adapter(tmp_path, rank=24))
    assert "rank 24" in said(found, "vllm", "note")
    assert "--max-lora-rank 32" in found.commands["vllm"]


@pytest.mark.parametrize(
    ("given", "vllm", "llama"),
    [
        ({"dora": True}, "DoRA", "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "lm_head", "trained whole"),
    ],
)
def test_what_an_adapter_may_not_have(tmp_path, given, vllm, llama):
    found = check_path(adapter(tmp_path, **given))
    assert vllm in said(found, "vllm", "refuses")
    assert vllm in said(found, "sglang", "refuses")
    assert llama in said(found, "llama.cpp", "refuses")
    assert not found.commands


def test_patterns_and_stable_scales_are_wrong_without_an_error(tmp_path):
    folder = adapter(tmp_path, rank_stabilised=True)
    found = check_path(folder)
    assert "scale" in said(found, "llama.cpp", "gets wrong")
    assert said(found, "vllm", "gets wrong") == ""
    change(folder / "adapter_config.json", alpha_pattern={"q_proj": 3})
    assert "by pattern" in said(check_path(folder), "vllm", "gets wrong")


def test_a_whole_model_that_is_sound_and_what_breaks_it(tmp_path):
    folder = tiny_model_folder(tmp_path / "model", "llama")
    found = check_path(folder)
    assert [r for r in found.remarks if r.effect != "note"] == []
    assert found.commands["vllm"] == f"vllm serve {folder}"
    assert {"llama.cpp", "ollama", "mlx", "lmstudio", "sglang"} <= set(found.commands)
    change(folder / "config.json", vocab_size=999, auto_map={"x": "y"})
    (folder / "generation_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("other")
    found = check_path(folder)
    assert "264 rows" in said(found, "llama.cpp", "refuses")
    assert "trust-remote-code" in said(found, "vllm", "refuses")
    assert "may not stop" in said(found, "vllm", "gets wrong")
    assert "two chat templates" in said(found, "vllm", "gets wrong")


def test_a_modelfile_by_the_rules(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF....")
    path = tmp_path / "Modelfile"
    path.write_text(
        'FROM ./m.gguf\nTEMPLATE """{{ .Prompt }}\nADAPTER"""\nPARAMETER stop "x"\nPARAMETER num_ctx 9\n'
    )
    assert check_modelfile(path).remarks == []
    path.write_text("FROM ./other.gguf\nADAPTER ./a\nFLAVOUR x\nPARAMETER taste 1\n")
    found = check_modelfile(path)
    refused = said(found, "ollama", "refuses")
    for word in ("other.gguf is not there", "ADAPTER", "FLAVOUR", "PARAMETER taste"):
        assert word in refused
    wrong = said(found, "ollama", "gets wrong")
    for word in ("no PARAMETER stop", "no TEMPLATE", "num_ctx"):
        assert word in wrong


def test_a_gguf_file_of_ours_is_sound_and_of_an_adapter_too(tmp_path):
    folder = folder_of("llama", tmp_path / "model")
    write_gguf(folder, tmp_path / "model.gguf", quant="f16", name="tiny")
    found = check_path(tmp_path / "model.gguf")
    assert [r for r in found.remarks if r.effect != "note"] == []
    assert found.commands["llama.cpp"] == f"llama-server -m {tmp_path / 'model.gguf'}"
    config = json.loads((folder / "config.json").read_text())
    write_gguf_adapter(adapter(tmp_path), config, tmp_path / "lora.gguf", name="tiny")
    found = check_path(tmp_path / "lora.gguf")
    assert list(found.commands) == ["llama.cpp"]
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(ModelError, match="cannot be read as GGUF"):
        check_path(tmp_path / "bad.gguf")


def test_the_command_says_it_and_ends_with_2_where_an_answer_would_be_wrong(tmp_path, capsys):
    folder = tiny_model_folder(tmp_path / "model", "llama")
    run_command("export", str(folder), "--check")
    assert f"vllm serve {folder}" in capsys.readouterr().out
    (folder / "generation_config.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(folder), "--check", "--json"])
    assert ended.value.code == 2
    said_in_json = json.loads(capsys.readouterr().out)
    assert "gets wrong" in {one["effect"] for one in said_in_json["remarks"]}
    with pytest.raises(ModelError, match="no adapter, model"):
        check_path(tmp_path)
