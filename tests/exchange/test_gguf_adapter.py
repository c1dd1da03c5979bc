"""An adapter as GGUF on its base's GGUF is, in a real llama.cpp, the model that PEFT makes of both."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tests.exchange.conftest import llama
from tests.exchange.test_gguf import TEXTS, folder_of, run_command
from transformers import AutoModelForCausalLM

from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import AdapterError, ArchitectureError
from luthier.exchange import gguf_adapter
from luthier.exchange.gguf_adapter import write_gguf_adapter
from luthier.exchange.gguf_file import write_gguf
from luthier.kernels.lora_linear import lora_scale
from luthier.sources.adapter_config import scale_of

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
CASES = {
    "llama3-rope": ({"use_rslora": True}, 1e-3),
    "qwen3": ({"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 3, "up_proj": 20}}, 1e-3),
    "phi3": ({}, 1e-3),
    "gemma2": ({}, 5e-3),  # its floor: a GELU through a table of halves
}


def base_of(folder):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def adapted(folder, adapter, **extra):
    """An adapter of PEFT on all linear layers, far from its start."""
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **extra
    )
    model = get_peft_model(base_of(folder), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.05)
    model.save_pretrained(adapter)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


@torch.no_grad()
def logprobs(model, ids):
    return model(torch.tensor([ids])).logits[0].log_softmax(-1)


def distances(folder, adapter, tmp_path, **given):
    """Root mean squares: llama.cpp from PEFT, and what the adapter does at all."""
    write_gguf(folder, tmp_path / "base.gguf", quant="f32", name="tiny")
    write_gguf_adapter(adapter, config_of(folder), tmp_path / "adapter.gguf", name="tiny", **given)
    ids = Tokenizer.from_folder(folder).encode(TEXTS[0] * 3).tolist()
    base = logprobs(base_of(folder), ids)
    tuned = logprobs(PeftModel.from_pretrained(base_of(folder), adapter).eval(), ids)
    gap, effect, count = 0.0, 0.0, 0
    with llama(tmp_path / "base.gguf", tmp_path / "adapter.gguf") as asked:
        for place in (len(ids), len(ids) // 2, 12, 5):
            for one, value in asked.next_logprobs(ids[:place], 2000).items():
                gap += (value - float(tuned[place - 1, one])) ** 2
                effect += float(base[place - 1, one] - tuned[place - 1, one]) ** 2
                count += 1
    assert count >= 2000
    return (gap / count) ** 0.5, (effect / count) ** 0.5


@pytest.mark.parametrize("family", CASES)
def test_llama_cpp_applies_the_adapter_as_peft_does(family, tmp_path):
    extra, bound = CASES[family]
    folder = folder_of(family, tmp_path / "model", spread=0.3)
    adapted(folder, tmp_path / "adapter", **extra)
    gap, effect = distances(folder, tmp_path / "adapter", tmp_path, half=family == "phi3")
    print(f"{family}: {gap / effect:.1e} of an effect of {effect:.2f}")  # noqa: T201
    assert effect > 0.1
    assert gap <= bound * effect


@pytest.mark.parametrize("mutant", ["rows not reordered", "scale not folded"])
def test_a_wrong_adapter_shows_in_the_probabilities(mutant, tmp_path, monkeypatch):
    folder = folder_of("llama3-rope", tmp_path / "model", spread=0.3)
    adapted(folder, tmp_path / "adapter", use_rslora=True)
    if mutant == "rows not reordered":
        monkeypatch.setattr(gguf_adapter, "arranged", lambda name, value, config: value)
    else:
        monkeypatch.setattr(gguf_adapter, "scale_of", lambda config, module, rank: 8 / rank)
    gap, effect = distances(folder, tmp_path / "adapter", tmp_path)
    assert gap > 10 * 1e-3 * effect


def test_what_an_adapter_of_llama_cpp_cannot_hold_is_refused_by_name(tmp_path):
    folder = folder_of("llama", tmp_path / "model")
    config = config_of(folder)
    for name, extra, said in (
        ("dora", {"use_dora": True}, "magnitudes"),
        ("whole", {"modules_to_save": ["lm_head"]}, "lm_head"),
    ):
        adapted(folder, tmp_path / name, **extra)
        with pytest.raises(AdapterError, match=said):
            write_gguf_adapter(tmp_path / name, config, tmp_path / "a.gguf", name="x")
    adapted(folder, tmp_path / "plain")
    with pytest.raises(ArchitectureError, match="gpt2"):
        write_gguf_adapter(
            tmp_path / "plain", {**config, "model_type": "gpt2"}, tmp_path / "a.gguf", name="x"
        )
    path = tmp_path / "plain" / "adapter_model.safetensors"
    state = load_file(path)
    state = {name.replace("q_proj", "x_proj"): value for name, value in state.items()}
    save_file(state, path)
    with pytest.raises(AdapterError, match="has no place in llama"):
        write_gguf_adapter(tmp_path / "plain", config, tmp_path / "a.gguf", name="x")


def test_the_scale_of_a_file_is_that_of_training():
    config = {"lora_alpha": 6, "alpha_pattern": {"q_proj": 3}, "use_rslora": True}
    assert scale_of(config, "a.q_proj", 9) == lora_scale(3, 9, rank_stabilised=True) == 1.0
    assert scale_of({"lora_alpha": 6}, "a.q_proj", 12) == lora_scale(6, 12) == 0.5


def test_the_command_writes_an_adapter_beside_nothing_else(tmp_path, capsys):
    folder = folder_of("llama", tmp_path / "model")
    adapted(folder, tmp_path / "adapter")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path / "adapter" / name)
    out = tmp_path / "out"
    run_command("export", str(tmp_path / "adapter"), "--to", "gguf-adapter", "--output", str(out))
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "adapter-f32.gguf", "manifest.json"
    ]  # fmt: skip
    assert "--lora adapter-f32.gguf" in (out / "README.md").read_text("utf-8")
    assert "14 layers" in capsys.readouterr().out
