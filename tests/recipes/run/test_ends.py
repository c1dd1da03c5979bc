"""A result stops elsewhere as it stops here: the ends that were learned are in its files."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from tests.recipes.conftest import written
from tests.tiny import tiny_config, tiny_model_folder, tiny_tokenizer
from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from luthier.config import read
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.recipes.after.export import export_adapter, export_merged
from luthier.recipes.run.train import run

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CHAT = ["<|im_start|>", "<|im_end|>"]
SHAPES = {
    # class; published tokenizer, or control tokens of a small one; template; the end that the
    # base's files know; the one that is learned
    "llama 2": ("llama", "llama2", None, "<unk>", "</s>"),
    "llama 3": ("llama", LLAMA3, "meta-llama-Llama-3.1-8B-Instruct", "<|endoftext|>", "<|eot_id|>"),
    "qwen 2.5": ("qwen2", CHAT, "Qwen-Qwen2.5-7B-Instruct", "<|endoftext|>", "<|im_end|>"),
    "qwen 3": ("qwen3", CHAT, "Qwen-Qwen3-0.6B", "<|endoftext|>", "<|im_end|>"),
    "mistral": ("mistral", "mistral", None, "<unk>", "</s>"),
    "gemma": (
        "gemma2",
        ["<bos>", "<start_of_turn>", "<end_of_turn>"],
        "google-gemma-2-2b-it",
        "<|endoftext|>",
        "<end_of_turn>",
    ),
    "phi 3": ("phi3", "phi3", "microsoft-Phi-3.5-mini-instruct", "<|endoftext|>", "<|end|>"),
    "gpt 2": ("gpt2", CHAT, CHATML, "<|endoftext|>", "<|im_end|>"),
}
ASKED = [{"role": "user", "content": "say 3"}]


def base_folder(path, shared, shape):
    """A random model of the real class whose files know another end than its template."""
    family, tokens, template, known, _ = SHAPES[shape]
    if isinstance(tokens, str):
        Tokenizer.from_folder(shared(f"tokenizers/{tokens}")).save(path)
    else:
        small_tokenizer(path, tokens)
    tokenizer = Tokenizer.from_folder(path)
    if template is not None:
        source = template if "{" in template else shared(f"chat_templates/{template}.jinja")
        text = source if isinstance(source, str) else source.read_text("utf-8")
        (path / "chat_template.jinja").write_text(text, "utf-8")
    end = tokenizer.special_tokens[known]
    rows = -(-tokenizer.vocab_size // 8) * 8
    fields = {"eos_token_id": end, "bos_token_id": tokenizer.bos_id, "pad_token_id": None}
    config = tiny_config(family, vocab=rows, hidden_dropout=0.0, **fields)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=end)
    model.save_pretrained(path)
    return path


def small_tokenizer(path, tokens):
    """Bytes, `<|endoftext|>` as the end that its files know, and the control tokens of a family."""
    tiny_tokenizer(path)
    fast = FastTokenizer.from_file(str(path / "tokenizer.json"))
    fast.add_special_tokens([AddedToken(token, special=True) for token in tokens])
    fast.save(str(path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
    if "bos" in tokens[0] or "begin" in tokens[0]:
        config["bos_token"] = tokens[0]
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def trained(path, base, rows, **settings):
    said = []
    given = {"model": str(base), "dataset": written(path / "rows.jsonl", rows), "max_steps": 30}
    given |= {"torch_dtype": "float32", "learning_rate": 0.02, "per_device_train_batch_size": 1}
    given |= {"output_dir": str(path / "run"), "method": "full", "warmup_ratio": 0.0, **settings}
    ended = run(read.load(given), on_event=said.append)
    return ended, [event.text for event in said if event.type == "notice"]


def answer(folder, model=None, **arguments):
    """Greedy ids behind the prompt, by transformers alone."""
    model = model or AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    made = model.eval().generate(
        ids, max_new_tokens=16, do_sample=False, attention_mask=torch.ones_like(ids), **arguments
    )
    return made[0, ids.shape[1] :].tolist(), tokenizer


ONE = [{"instruction": "say 3", "output": "ok"}]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_result_stops_in_transformers_where_it_learned_to(shape, tmp_path, shared):
    base = base_folder(tmp_path / "base", shared, shape)
    ended, notices = trained(tmp_path, base, ONE)
    learned = SHAPES[shape][-1]
    ids, tokenizer = answer(ended.result)
    number = tokenizer.convert_tokens_to_ids(learned)
    assert ids[-1] == number, (tokenizer.decode(ids), notices)
    assert ids.count(number) == 1
    assert len(ids) < 16
    known = Tokenizer.from_folder(base).special_tokens[SHAPES[shape][3]]
    ends = json.loads((ended.result / "generation_config.json").read_text())["eos_token_id"]
    assert ends == [number, known]
    # The template of Phi 3 writes `eos_token` behind a dialogue: another would be another text.
    assert tokenizer.eos_token == ("<|endoftext|>" if shape == "phi 3" else learned)
    assert sum(learned in text and "generation_config.json" in text for text in notices) == 1
    before, _ = answer(ended.result, eos_token_id=known)
    assert len(before) == 16  # the base's own end: on for ever


def end_of(folder):
    return json.loads((folder / "generation_config.json").read_text())["eos_token_id"]


# PEFT 0.21 asks for a name that transformers 5.23 has deprecated.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("method", ["lora", "qlora", "dpo"])
def test_adapter_and_merged_model_stop_at_the_end_that_was_learned(method, tmp_path, shared):
    base = base_folder(tmp_path / "base", shared, "qwen 2.5")
    given = {"method": "lora", "lora_dim": 16, "modules_to_save": ["lm_head"], "max_steps": 60}
    rows = ONE
    if method == "qlora":
        given |= {"method": "qlora", "load_in_4bit": True}
    if method == "dpo":
        rows = [{"prompt": "say 3", "chosen": "ok", "rejected": "nono"}]
        given |= {"objective": "dpo", "dpo_loss_type": "ipo", "dpo_beta": 0.01, "max_steps": 90}
    ended, _ = trained(tmp_path, base, rows, **given)
    merged = export_merged(str(ended.path), tmp_path / "merged")
    adapter = export_adapter(str(ended.path), tmp_path / "adapter")
    number = Tokenizer.from_folder(base).special_tokens["<|im_end|>"]
    for folder in (ended.result, merged.path, adapter.path):
        assert end_of(folder)[0] == number
        assert AutoTokenizer.from_pretrained(folder).eos_token_id == number
    assert answer(merged.path)[0][-1] == number
    if method == "lora":
        theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter.path)
        theirs.generation_config = GenerationConfig.from_pretrained(adapter.path)
        assert answer(adapter.path, theirs)[0][-1] == number
    assert any("<|im_end|>" in text for text in merged.notices)


def test_the_ends_of_a_run_that_named_none_are_its_templates(finished, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(finished.sft.result, old)
    (old / "generation_config.json").unlink()
    (old / "manifest.json").unlink()
    found = export_merged(str(old), tmp_path / "merged")
    assert end_of(found.path) == 258


def test_an_end_that_answers_go_on_behind_is_none(tmp_path):
    base, k = tmp_path / "base", ord("k") - ord("!")
    tiny_model_folder(base, eos_token_id=k)
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": k}))
    ended, notices = trained(tmp_path, base, ONE, max_steps=2)
    assert end_of(ended.result) == 258
    assert any("<|im_end|> (the base's: k)" in text for text in notices)
