"""A field of the wrong type in a config.json is named, on every path, before anything is built."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.tiny import FAMILIES, tiny_config, tiny_model_folder
from tokenizers import Tokenizer as FastTokenizer

from luthier.cli.main import main
from luthier.errors import ModelError
from luthier.gallery import all_families
from luthier.models.load import load_base
from luthier.sources.check import read_config
from luthier.sources.config_types import type_problems

WRONG = {
    "rms_norm_eps": ("1e-6", "a number is needed"),
    "rope_theta": (True, "a number is needed"),
    "tie_word_embeddings": ("false", "true or false is needed"),
    "hidden_act": (None, "the name of a function is needed"),
    "rope_scaling": ("linear", "an object with rope_type is needed"),
    "rope_parameters": ({"rope_type": "linear", "factor": "2"}, "rope_parameters.factor is '2'"),
    "layer_types": (["full_attention"], "has 1 entries, the model has 2 layers"),
    "torch_dtype": ("fp16", "one of auto, bfloat16"),
    "sliding_window": (0, "1 or more tokens, or null"),
    "eos_token_id": ("</s>", "a token id is needed"),
    "pad_token_id": (999, "the vocabulary has ids up to 263"),
    "vocab_size": (264.0, "vocab_size is 264.0"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model"), "mistral")


def with_field(model: Path, path: Path, name: str, value: object) -> Path:
    shutil.copytree(model, path)
    fields = json.loads((model / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**fields, name: value}))
    return path


@pytest.mark.parametrize("name", WRONG)
def test_a_field_of_the_wrong_type_is_named_with_its_value(
    name: str, model: Path, tmp_path: Path
) -> None:
    value, said = WRONG[name]
    with pytest.raises(ModelError, match="describes no model") as caught:
        read_config(with_field(model, tmp_path / "wrong", name, value))
    assert caught.value.code == "E400"
    assert said in caught.value.why
    assert name in caught.value.why


@pytest.mark.parametrize("window", [-1, 0])
def test_a_window_of_no_token_is_refused_unless_it_is_not_used(
    window: int, model: Path, tmp_path: Path
) -> None:
    fields = json.loads((model / "config.json").read_text())
    assert type_problems({**fields, "sliding_window": window})
    assert not type_problems({**fields, "sliding_window": window, "use_sliding_window": False})
    assert not type_problems({**fields, "sliding_window": None})


@pytest.mark.parametrize("command", ["train", "eval", "chat", "plan", "export"])
def test_every_command_says_the_same_of_it(
    command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = str(with_field(model, tmp_path / "wrong", "rms_norm_eps", "1e-6"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    words = {
        "train": ["train", "--model", broken, "--dataset", str(rows)],
        "eval": ["eval", broken, "--dataset", str(rows)],
        "chat": ["chat", broken, "--prompt", "hi"],
        "plan": ["plan", "--model", broken, "--dataset", str(rows)],
        "export": ["export", broken, "--to", "merged", "--output", str(tmp_path / "out")],
    }
    with pytest.raises(SystemExit, match="2"):
        main(words[command])
    said = capsys.readouterr().err
    assert "[E400]" in said
    assert "rms_norm_eps is '1e-6', a number is needed" in said


@pytest.mark.parametrize("command", ["train", "eval", "chat", "compare", "plan", "data check"])
def test_every_command_refuses_ids_without_an_embedding(
    command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    fast = FastTokenizer.from_file(str(folder / "tokenizer.json"))
    fast.add_special_tokens([f"<|extra_{number}|>" for number in range(9)])  # 268 of 264
    fast.save(str(folder / "tokenizer.json"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n')
    words = {
        "train": ["train", "--model", str(folder), "--dataset", str(rows)],
        "eval": ["eval", str(folder), "--dataset", str(rows)],
        "chat": ["chat", str(folder), "--prompt", "hi"],
        "compare": ["compare", str(folder), str(folder), "--prompt", "hi"],
        "plan": ["plan", "--model", str(folder), "--dataset", str(rows)],
        "data check": ["data", "check", str(rows), "--model", str(folder)],
    }
    with pytest.raises(SystemExit, match="2"):
        main(words[command])
    said = capsys.readouterr().err
    assert "[E209]" in said
    assert "the tokenizer has 268 tokens, the model embeds 264" in said


def test_a_dtype_of_auto_says_nothing_and_loads(model: Path, tmp_path: Path) -> None:
    folder = with_field(model, tmp_path / "auto", "torch_dtype", "auto")
    assert load_base(folder, dtype=torch.float32).config.dtype == torch.float32


def test_no_config_of_the_gallery_or_of_a_real_class_has_a_problem() -> None:
    known = [m.architecture for f in all_families() for m in f.models if m.architecture]
    assert len(known) > 50
    for config in [*known, *(tiny_config(family).to_dict() for family in FAMILIES)]:
        assert type_problems(config) == []


def test_a_generation_config_that_transformers_refuses_is_named(
    model: Path, tmp_path: Path
) -> None:
    folder = with_field(model, tmp_path / "wrong", "use_cache", True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "generation_config.json").write_text('{"max_new_tokens": "many"}')
    with pytest.raises(ModelError, match=r"generation_config\.json cannot be used"):
        load_base(folder, dtype=torch.float32)
