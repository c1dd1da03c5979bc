"""What ships in the package: loads through luthier's own doors, and is small."""

import datetime
import json
from pathlib import Path

import pytest
import torch
from tests.conftest import CHECKOUT

from luthier.config import read
from luthier.data.load import load_samples
from luthier.data.rendering.render import Renderer
from luthier.data.rendering.template import choose_template
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.types import Conversation, Example, Message, Preference
from luthier.models.load import load_base

STARTER = CHECKOUT / "src" / "luthier" / "starter"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(STARTER)


def test_the_package_stays_small() -> None:
    sizes = {path.name: path.stat().st_size for path in STARTER.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 12_000_000
    assert sizes["tokenizer.json"] <= 500_000
    assert sizes.get("model.safetensors", 0) <= 8_000_000


def test_config_and_tokenizer_belong_together(tokenizer: Tokenizer) -> None:
    config = json.loads((STARTER / "config.json").read_text(encoding="utf-8"))
    assert tokenizer.vocab_size == config["vocab_size"]
    assert tokenizer.eos_id == config["eos_token_id"] == tokenizer.special_tokens["<|im_end|>"]
    assert tokenizer.pad_id == config["pad_token_id"]
    assert tokenizer.stop_ids == {tokenizer.eos_id, tokenizer.pad_id}
    model = load_base(STARTER, dtype=torch.float32, from_scratch_seed=0)
    assert sum(weight.numel() for weight in model.parameters()) == 1_000_832


def test_its_template_is_chatml(tokenizer: Tokenizer) -> None:
    now = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    template, notice = choose_template(tokenizer, setting=None, gallery_template=None, now=now)
    assert notice is None
    messages = [Message("system", "Be brief."), Message("user", "hi"), Message("assistant", "ho")]
    assert template.render(messages, (), add_generation_prompt=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        "<|im_start|>assistant\nho<|im_end|>\n"
    )
    prompt = Renderer(tokenizer, template).prompt(messages[:2])
    assert tokenizer.decode(prompt).endswith("<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("name", "objective", "kind"),
    [
        ("sft_train", "sft", Conversation),
        ("sft_eval", "sft", Conversation),
        ("preference_train", "dpo", Preference),
        ("preference_eval", "dpo", Preference),
    ],
)
def test_every_row_becomes_an_example(
    tokenizer: Tokenizer, name: str, objective: str, kind: type
) -> None:
    path = STARTER / "data" / f"{name}.jsonl"
    loaded = load_samples([str(path)], objective=objective)
    assert not loaded.bad
    now = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    template, _ = choose_template(tokenizer, setting=None, gallery_template=None, now=now)
    renderer = Renderer(tokenizer, template, objective=objective, seq_length=512)
    for sample in loaded.samples:
        assert isinstance(sample, kind)
        example = renderer.render(sample)
        assert isinstance(example, Example)
        assert example.cut is None
        assert all(sequence.weights.sum() > 1 for sequence in example.sequences)


def test_the_recipe_is_a_valid_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    settings = read.load(Path("configs/starter/pretrain.yaml"), {}).settings
    assert (settings.objective, settings.method, settings.from_scratch) == ("text", "full", True)
    assert Path(settings.model) == Path("src/luthier/starter")
