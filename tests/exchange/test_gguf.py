"""What luthier writes as GGUF is the same model in a real llama.cpp: ids, probabilities, an answer that stops."""

import dataclasses
import json
import shutil

import gguf
import numpy as np
import pytest
import torch
from tests.conftest import CHECKOUT, SHARED
from tests.exchange.conftest import llama
from tests.tiny import tiny_model_folder
from transformers import AutoModelForCausalLM

from luthier.cli.main import main
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.errors import ArchitectureError, DamagedWeightsError, TokenizerError
from luthier.exchange import gguf_file, gguf_shapes, gguf_tokens
from luthier.exchange.gguf_file import check_gguf, write_gguf
from luthier.exchange.gguf_shapes import architecture_of, numbers_of

STARTER = CHECKOUT / "src" / "luthier" / "starter"
TEXTS = (
    "Say hello to the world, 1234 times.",
    "Xin chào! 你好, मानक हिन्दी",
    "  two spaces\n\n\ttab  ",
    "<|im_end|> is text here",
)
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
FAMILIES = {
    "llama": ({}, 1e-4),
    "llama3-rope": ({"rope_parameters": LLAMA3_ROPE}, 1e-4),
    "mistral": ({"sliding_window": None}, 1e-4),
    "qwen2": ({"tie": True}, 1e-4),
    "qwen3": ({}, 1e-4),
    "phi3": ({"sliding_window": 128}, 1e-4),
    "gemma2": ({"tie": True}, 2e-2),  # llama.cpp's GELU goes through a table of halves
    "gemma3": ({"tie": True, "num_hidden_layers": 6, "layer_types": None}, 2e-2),
}


def run_command(*words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code in (None, 0)


def folder_of(family, path, **more):
    """A tiny model with a published kind of tokenizer: the built-in one."""
    given, _ = FAMILIES[family]
    folder = tiny_model_folder(path, family.removesuffix("3-rope"), vocab=2112, **{**given, **more})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(STARTER / name, folder / name)
    return folder


def probabilities(folder, ids):
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].log_softmax(-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_gives_the_same_ids_and_probabilities(family, tmp_path):
    folder = folder_of(family, tmp_path / "model")
    target = tmp_path / "model.gguf"
    write_gguf(folder, target, quant="f32", name="tiny")
    tokenizer = Tokenizer.from_folder(folder)
    ids = [int(one) for one in np.concatenate([tokenizer.encode(text) for text in TEXTS])][:100]
    expected = probabilities(folder, ids)
    compared = 0
    with llama(target) as asked:
        for text in TEXTS:
            assert asked.tokens(text) == tokenizer.encode(text).tolist()
        for place in (len(ids), len(ids) // 2, 12, 5):
            found = asked.next_logprobs(ids[:place], 2000)
            gaps = [abs(value - float(expected[place - 1, one])) for one, value in found.items()]
            compared += len(gaps)
            assert max(gaps, default=0.0) < FAMILIES[family][1]
    assert compared >= 2000


@pytest.mark.parametrize("quant", ["f16", "bf16", "q8_0"])
def test_a_stored_type_loses_no_more_than_its_rounding(quant, tmp_path):
    folder = folder_of("llama", tmp_path / "model", hidden_size=64)
    write_gguf(folder, tmp_path / "model.gguf", quant=quant, name="tiny")
    worst = check_gguf(folder, tmp_path / "model.gguf")
    assert 0.5 < worst[quant] <= 1.0
    assert worst["f32"] == 0.0


def test_a_damaged_value_is_found_when_the_file_is_read_back(tmp_path):
    folder = folder_of("llama", tmp_path / "model")
    target = tmp_path / "model.gguf"
    write_gguf(folder, target, quant="f16", name="tiny")
    with target.open("r+b") as file:
        file.seek(-64, 2)
        file.write(b"\x7b" * 8)
    with pytest.raises(DamagedWeightsError, match="times its rounding"):
        check_gguf(folder, target)


@pytest.mark.parametrize("mutant", ["no permutation", "no factors"])
def test_a_wrong_arrangement_shows_in_the_probabilities(mutant, tmp_path, monkeypatch):
    """What the comparison above rests on: these faults move it by orders of magnitude."""
    if mutant == "no permutation":
        monkeypatch.setattr(gguf_file, "arranged", lambda name, value, config: value)
    else:
        monkeypatch.setattr(gguf_file, "rope_factors", lambda config: None)
    folder = folder_of("llama3-rope", tmp_path / "model", spread=0.5)
    write_gguf(folder, tmp_path / "model.gguf", quant="f32", name="tiny")
    ids = Tokenizer.from_folder(folder).encode(TEXTS[0] * 4).tolist()
    expected = probabilities(folder, ids)[-1]
    with llama(tmp_path / "model.gguf") as asked:
        for place in range(len(ids), 4, -1):
            if found := asked.next_logprobs(ids[:place], 2000):
                break
        expected = probabilities(folder, ids[:place])[-1]
        assert max(abs(value - float(expected[one])) for one, value in found.items()) > 1e-2


@pytest.mark.parametrize("name", ["llama2", "stories260K"])
def test_a_sentencepiece_kind_of_tokenizer_keeps_its_ids(name, shared, tmp_path):
    source = shared("models/stories260K_hf" if name == "stories260K" else "tokenizers/llama2")
    folder = tmp_path / "model"
    if name == "stories260K":
        shutil.copytree(source, folder)
    else:
        tiny_model_folder(folder, "llama", vocab=32000)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(SHARED / "tokenizers" / "llama2" / file, folder / file)
    write_gguf(folder, tmp_path / "model.gguf", quant="f16", name=name)
    tokenizer = Tokenizer.from_folder(folder)
    with llama(tmp_path / "model.gguf") as asked:
        for text in TEXTS:
            assert asked.tokens(text) == tokenizer.encode(text).tolist()


def test_the_command_exports_a_run_that_answers_and_stops_in_llama_cpp(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    lines = [{"prompt": "What is it?", "response": "A baker bakes bread."}] * 8
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    run, out = tmp_path / "run", tmp_path / "out"
    told = ["--model", "starter", "--dataset", str(rows), "--output_dir", str(run)]
    more = ["--max_steps", "30", "--learning_rate", "0.001", "--eval_split", "0"]
    more += ["--lora_target_modules", "all-linear"]
    run_command("train", *told, *more, "--per_device_train_batch_size", "4")
    run_command("export", str(run), "--to", "gguf", "--output", str(out))
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "manifest.json", "model-f16.gguf"
    ]  # fmt: skip
    with llama(out / "model-f16.gguf") as asked:
        turns = [{"role": "user", "content": "What is it?"}]
        body = {"messages": turns, "max_tokens": 40, "temperature": 0}
        said = asked.post("/v1/chat/completions", body)["choices"][0]
    assert said["message"]["content"].strip() == "A baker bakes bread."
    assert said["finish_reason"] == "stop"
    assert not list(tmp_path.glob(".out*"))


def test_what_llama_cpp_would_get_wrong_is_refused_by_name(tmp_path):
    with pytest.raises(ArchitectureError, match="gpt2"):
        architecture_of({"model_type": "gpt2"})
    folder = folder_of("mistral", tmp_path / "window", sliding_window=6)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert numbers_of(config)["context_length"] == 6, "behind its window it would see further back"
    layers = ["full_attention", "sliding_attention"]
    with pytest.raises(ArchitectureError, match="layer_types"):
        numbers_of({**config, "model_type": "gemma3_text", "layer_types": layers})
    with pytest.raises(TokenizerError, match="embedding 100 rows"):
        gguf_file.token_list(Tokenizer.from_folder(STARTER).definition, {}, rows=100, unknown=None)


def test_every_end_of_an_answer_has_a_place_and_one_left_out_is_seen(tmp_path, monkeypatch):
    folder = folder_of("llama", tmp_path / "model")
    tokenizer = Tokenizer.from_folder(folder)
    ends = sorted({tokenizer.eos_id, 5, 7})
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))

    def written():
        write_gguf(folder, tmp_path / "model.gguf", quant="f16", name="tiny")
        reader = gguf.GGUFReader(tmp_path / "model.gguf")
        fields = [
            reader.get_field(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")
        ]
        return sorted(field.contents() for field in fields if field is not None)

    assert written() == ends
    monkeypatch.setattr(gguf_file, "_ends", lambda folder, tokenizer: [tokenizer.eos_id])
    assert written() != ends


def test_norms_without_their_one_show_in_the_probabilities(tmp_path, monkeypatch):
    folder = folder_of("gemma2", tmp_path / "model", spread=0.3)
    ids = Tokenizer.from_folder(folder).encode(TEXTS[0]).tolist()
    expected = probabilities(folder, ids)
    plain = dataclasses.replace(gguf_shapes.ARCHITECTURES["gemma2"], norm_offset=0.0)
    monkeypatch.setitem(gguf_shapes.ARCHITECTURES, "gemma2", plain)
    write_gguf(folder, tmp_path / "model.gguf", quant="f32", name="tiny")
    with llama(tmp_path / "model.gguf") as asked:
        for place in range(len(ids), 4, -1):
            if found := asked.next_logprobs(ids[:place], 2000):
                break
    gaps = [abs(value - float(expected[place - 1, one])) for one, value in found.items()]
    assert max(gaps) > 10 * FAMILIES["gemma2"][1]


def test_a_wrong_pre_tokenizer_shows_in_the_ids(tmp_path, monkeypatch):
    folder = folder_of("llama", tmp_path / "model")
    monkeypatch.setattr(gguf_tokens, "_pre", lambda definition: "gpt-2")
    write_gguf(folder, tmp_path / "model.gguf", quant="f16", name="tiny")
    tokenizer = Tokenizer.from_folder(folder)
    with llama(tmp_path / "model.gguf") as asked:
        # Where the two split otherwise, and this vocabulary has merges across the border.
        texts = [
            "It's so.\n\nIt is.",
            "Why?\n\nBecause",
            "def f():\n\n    x = 12",
            "(see)\n",
            "IT'S",
        ]
        assert [t for t in texts if asked.tokens(t) != tokenizer.encode(t).tolist()]
