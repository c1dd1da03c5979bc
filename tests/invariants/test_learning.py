"""That training trains: what is trained moves, what is frozen stays, what was learned is said again."""

import hashlib
import json
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.invariants import reference as ref
from tests.invariants.product import Product, Recorder, make_product, model_folder
from tests.tiny import SPECIAL, tiny_model_folder
from torch import nn
from transformers import AutoModelForCausalLM

import luthier
from luthier.engine.loop import train
from luthier.recipes.run.objective import TokenObjective

ENDED, PAD = SPECIAL[2], SPECIAL[0]
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "all linear": {"lora_target_modules": "all-linear"},
    "head too": {"modules_to_save": "lm_head"},
    "qlora": {"load_in_4bit": True},
}


def frozen_digest(model: nn.Module, trained: dict[str, nn.Parameter]) -> str:
    """SHA-256 over every weight and buffer that is not trained."""
    own = {id(weight) for weight in trained.values()}
    digest = hashlib.sha256()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if id(value) not in own:
            digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def three_steps(product: Product) -> dict[str, torch.Tensor]:
    """Train; gives the gradients of the last step by name."""
    updater = Recorder(product.trainee.trained)
    steps = product.steps()
    train(
        TokenObjective(product.trainee),
        steps.plan,
        updater,
        first_step=1,
        last_step=3,
        learning_rate=lambda step: 1e-3,
        on_step=lambda report: None,
        shrink=steps.shrink,
    )
    return updater.seen


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_three_steps_move_every_trained_weight_and_no_frozen_byte(family, method, tmp_path):
    folder = model_folder(tmp_path / "model", family)
    product = make_product(folder, ref.conversations(0), tmp_path, lora_dim=4, **METHODS[method])
    trainee = product.trainee
    before = frozen_digest(trainee.model, trainee.trained)
    start = {name: weight.detach().clone() for name, weight in trainee.trained.items()}
    gradients = three_steps(product)
    assert gradients.keys() == trainee.trained.keys()
    for name, weight in trainee.trained.items():
        assert gradients[name].any(), name
        assert not torch.equal(weight, start[name]), name
        assert weight.any(), name  # every B has left zero
    assert trainee.adapters is not None
    assert all(weight.requires_grad for weight in trainee.trained.values())
    assert frozen_digest(trainee.model, trainee.trained) == before


QUESTIONS = [f"{verb} the {noun}?" for verb in ("Where is", "Who has") for noun in ref.WORDS[:8]]
ANSWERS = [" ".join(ref.WORDS[(5 * i + j * j) % 15] for j in range(1 + i % 4)) for i in range(16)]


@pytest.mark.parametrize(
    ("method", "pad"), [("lora", PAD), ("lora", ENDED), ("lora", None), ("full", ENDED)]
)
def test_sixteen_learned_answers_are_said_again_and_end(method, pad, tmp_path):
    folder = tiny_model_folder(
        tmp_path / "model", hidden_size=64, intermediate_size=128, spread=0.3
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": pad}))
    data = tmp_path / "rows.jsonl"
    pairs = zip(QUESTIONS, ANSWERS, strict=True)
    rows = [json.dumps({"instruction": ask, "output": answer}) + "\n" for ask, answer in pairs]
    data.write_text("".join(rows))
    adapter = {"lora_target_modules": "all-linear", "lora_dim": 32}
    run = luthier.train(
        model=folder,
        dataset=data,
        method=method,
        output_dir=tmp_path / "run",
        max_steps=120,
        per_device_train_batch_size=16,
        learning_rate=5e-3,
        lr_scheduler_type="constant",
        **(adapter if method == "lora" else {}),
    )
    losses = [event["loss"] for event in run.events() if event["type"] == "step"]
    print(f"{method}, pad {pad}: loss {losses[0]:.2f} -> {losses[-1]:.4f}")  # noqa: T201
    assert losses[-1] < 0.01
    for ask, answer in zip(QUESTIONS, ANSWERS, strict=True):
        session = run.session()
        assert "".join(session.send(ask)) == answer
        assert session.finish == "stop"


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT reads what transformers renames
@torch.no_grad()
def test_a_run_reads_the_same_in_peft_and_back(tmp_path):
    folder = model_folder(tmp_path / "model", "qwen2")
    data = tmp_path / "rows.jsonl"
    lines = [json.dumps({"messages": row}) + "\n" for row in ref.conversations(1)]
    data.write_text("".join(lines))
    with torch.enable_grad():
        run = luthier.train(
            model=folder,
            dataset=data,
            output_dir=tmp_path / "run",
            max_steps=5,
            learning_rate=1e-2,
            lora_dim=8,
            lora_alpha=20,
        )
    ids = torch.tensor([ref.spell(ref.conversations(1)[0], everything=False).ids])
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    plain = base(ids).logits
    theirs = PeftModel.from_pretrained(base, run.result).eval()
    wanted = theirs(ids).logits
    assert (wanted - plain).abs().max() > 0.1
    theirs.save_pretrained(tmp_path / "theirs")
    for name in (run.path, tmp_path / "theirs"):
        ours = logits_of(luthier.load(name), ids)
        torch.testing.assert_close(ours, wanted, atol=2e-5, rtol=2e-5)


def logits_of(run: luthier.Run, ids: torch.Tensor) -> torch.Tensor:
    """What the model that answers in a chat computes."""
    from luthier.models.build import generation_mode

    model = run.opened.model
    with generation_mode(model):
        logits: torch.Tensor = model(ids).logits
    return logits
