"""What `luthier export` writes opens elsewhere, and is not written where merging would lose it."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.faults import FaultyFiles, Killed
from tests.recipes.conftest import sft_rows, written
from tests.tiny import tiny_model_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from luthier.cli.main import main
from luthier.config import read
from luthier.durable import using
from luthier.errors import AdapterError, TemplateError
from luthier.models.build import generation_mode
from luthier.recipes.after.export import export_adapter, export_merged
from luthier.recipes.after.open_model import open_model
from luthier.recipes.run.train import run

IDS = torch.arange(3, 27)[None]


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def tuned_logits(name):
    model = open_model(str(name)).model
    with generation_mode(model):
        return logits(model)


# PEFT 0.21 asks for a name that transformers 5.23 has deprecated.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_an_adapter_opens_in_peft_from_anywhere(finished, tmp_path, monkeypatch):
    found = export_adapter(str(finished.sft.path), tmp_path / "out" / "adapter")
    monkeypatch.chdir(tmp_path)
    config = json.loads((found.path / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    theirs = PeftModel.from_pretrained(base, found.path).eval()
    assert torch.allclose(logits(theirs), tuned_logits(finished.sft.path), atol=1e-4)
    assert AutoTokenizer.from_pretrained(found.path).chat_template
    assert (found.path / "README.md").is_file()


def test_a_merged_model_opens_in_transformers(finished, tmp_path):
    found = export_merged(str(finished.dpo.path), tmp_path / "merged")
    assert found.merge_error < 1e-4
    assert found.measured_on == "4 training rows"
    theirs = AutoModelForCausalLM.from_pretrained(found.path).eval()
    assert torch.allclose(logits(theirs), tuned_logits(finished.dpo.path), atol=1e-4)
    assert theirs.generation_config.eos_token_id is not None
    tokenizer = AutoTokenizer.from_pretrained(found.path)
    turns = [{"role": "user", "content": "hi"}]
    assert "hi" in tokenizer.apply_chat_template(turns, tokenize=False)
    card = (found.path / "README.md").read_text()
    assert "merged against base and adapter" in card
    assert "library_name: transformers" in card
    assert torch.allclose(tuned_logits(found.path), logits(theirs), atol=1e-5)


def test_a_quantised_base_is_merged_dequantised(tmp_path):
    base = tiny_model_folder(tmp_path / "base", hidden_size=64)
    data = written(tmp_path / "rows.jsonl", sft_rows(range(8)))
    given = {"model": str(base), "dataset": data, "load_in_4bit": True, "max_steps": 4}
    given |= {"torch_dtype": "float32", "learning_rate": 0.02, "output_dir": str(tmp_path / "run")}
    ended = run(read.load(given))
    found = export_merged(str(ended.path), tmp_path / "merged")
    assert found.merge_error < 1e-4
    theirs = AutoModelForCausalLM.from_pretrained(found.path).eval()
    assert torch.allclose(logits(theirs), tuned_logits(ended.path), atol=1e-3)


def test_a_merge_that_would_lose_the_adapter_is_refused(finished, tmp_path):
    adapter = tmp_path / "faint"
    shutil.copytree(finished.sft.result, adapter)
    path = adapter / "adapter_model.safetensors"
    faint = {name: w * (1e-4 if "lora_B" in name else 1) for name, w in load_file(path).items()}
    save_file(faint, path, metadata={"format": "pt"})
    (adapter / "manifest.json").unlink()  # changed on purpose
    with pytest.raises(AdapterError, match="of what the adapter does") as caught:
        export_merged(str(adapter), tmp_path / "merged", torch_dtype="bfloat16")
    assert "--torch-dtype float32" in caught.value.fix
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faint"]
    found = export_merged(str(adapter), tmp_path / "merged", torch_dtype="float32")
    assert found.measured_on == "4 built-in texts"


def test_a_run_without_adapter_is_copied(finished, tmp_path):
    found = export_merged(str(finished.full.path), tmp_path / "whole")
    theirs = AutoModelForCausalLM.from_pretrained(found.path).eval()
    assert torch.equal(logits(theirs), tuned_logits(finished.full.path))
    with pytest.raises(AdapterError, match="has no adapter"):
        export_adapter(str(finished.full.path), tmp_path / "adapter")
    with pytest.raises(AdapterError, match="no adapter to merge"):
        export_merged(str(finished.base), tmp_path / "copy")


def whole(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("export", [export_adapter, export_merged])
def test_an_export_that_was_killed_is_absent_and_the_next_one_has_the_same_bytes(
    finished, tmp_path, export
):
    source = str(finished.sft.path)
    counted = FaultyFiles(fail_at=-1)
    with using(counted):
        untouched = whole(export(source, tmp_path / "untouched").path)
    for fail_at in sorted({1, 2, counted.count // 3, counted.count // 2, counted.count - 1}):
        for mode in ("killed", "killed after"):
            target = tmp_path / f"{mode}-{fail_at}"
            with using(FaultyFiles(fail_at, mode)), pytest.raises(Killed):
                export(source, target)
            left = whole(target) if target.exists() else {}
            assert left in ({}, untouched), (fail_at, mode)
            if not left:
                assert whole(export(source, target).path) == untouched


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--to", "onnx", "--output", "x"],
            "adapter, merged, gguf, gguf-adapter, ollama are possible",
        ),
        (["--to", "merged", "--output", "."], "already exists"),
        (["--to", "merged", "--output", "x", "--torch-dtype", "int3"], "bfloat16"),
    ],
)
def test_what_cannot_be_exported_is_said_at_once(finished, capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main(["export", str(finished.sft.path), *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"now": "yesterday"}', '{"chat_template": 5}', '{"chat_template_kwargs": [1]}'],
)
def test_a_damaged_record_of_the_rendering_is_named(finished, tmp_path, text):
    folder = tmp_path / "result"
    shutil.copytree(finished.full.result, folder)
    (folder / "rendering.json").write_text(text)
    with pytest.raises(TemplateError, match=r"rendering\.json cannot be used"):
        open_model(str(folder))
