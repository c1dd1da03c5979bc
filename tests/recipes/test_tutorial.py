"""The Llama-2 recipe through the real command line: real tokenizer, real rows, a tiny random model."""

import json
import shutil

import pytest
import torch
from tests.conftest import CHECKOUT
from tests.tiny import tiny_model_folder

from luthier.cli.main import main
from luthier.runs import RunDirectory

RECIPE = CHECKOUT / "configs" / "llama2-7b-chat-guanaco-qlora.yaml"
BOS, EOS = 1, 2
QUESTION, ANSWER = "¿123 x 3567?", "438,741"


def luthier(capsys, *words):
    """One command; its output and what it said on the side."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory, shared):
    folder = tiny_model_folder(
        tmp_path_factory.mktemp("models") / "llama2-tiny",
        vocab=32_000,
        spread=0.3,
        hidden_size=64,
        intermediate_size=96,
        max_position_embeddings=2048,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    for file in shared("tokenizers/llama2").iterdir():
        shutil.copy(file, folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | {"pad_token": "</s>"}  # as the tutorial sets it
    path.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def rows(shared):
    """The shortest rows of the file, shortest first."""
    return sorted(shared("sft/oasst_llama2_chat.jsonl").read_text("utf-8").splitlines(), key=len)


def written(path, rows):
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def events(run, kind):
    lines = map(json.loads, RunDirectory.open(run).events_file.read_text("utf-8").splitlines())
    return [line for line in lines if line["type"] == kind]


def test_the_recipe_as_it_stands(model, rows, tmp_path, capsys):
    data, run = written(tmp_path / "rows.jsonl", rows[:10]), tmp_path / "run"
    where = ("--model", model, "--dataset", data, "--output_dir", run)
    said = luthier(capsys, "train", RECIPE, *where)
    assert "group_by_length: nothing is padded here" in said.out
    assert "paged_adamw_32bit: on the CPU pages are ordinary memory" in said.out
    assert "warmup_ratio is ignored: constant has no warm-up" in said.out
    assert "max_steps: -1 means num_train_epochs decides" in said.out

    saved = json.loads((run / "settings.json").read_text("utf-8"))
    used = saved["settings"]
    wanted = {
        "method": "qlora", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": False, "torch_dtype": "float16", "lora_dim": 8,
        "lora_alpha": 16, "lora_dropout": 0.1, "num_train_epochs": 1, "max_steps": None,
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1,
        "optim": "paged_adamw_32bit", "learning_rate": 2e-4, "lr_scheduler_type": "constant",
        "weight_decay": 0.001, "max_grad_norm": 0.3, "warmup_ratio": 0.03,
        "save_steps": 25, "logging_steps": 25,
    }  # fmt: skip
    assert {name: used[name] for name in wanted} == wanted
    assert saved["provenance"]["lora_dim"].startswith("alias r, ")

    report = json.loads((run / "data.json").read_text("utf-8"))["train"]
    assert report["mix"] == {"text (llama2)": 10}
    assert (report["rows"]["read"], report["rows"]["used"]) == (10, 10)
    steps = events(run, "step")
    assert [step["step"] for step in steps] == [3]  # 10 rows, 4 a step
    assert steps[0]["learning_rate"] == 2e-4
    state = json.loads((run / "checkpoints" / "step-000003" / "state.json").read_text("utf-8"))
    assert state["loss_scale"] == 2.0**14  # float16 compute
    assert torch.isfinite(torch.tensor(steps[0]["loss"]))


def test_one_bos_and_a_learned_eos_although_it_pads(model, rows, tmp_path, capsys):
    dialogue = next(row for row in rows if row.count("[INST]") > 1)
    chosen = [rows[0], dialogue]
    data = written(tmp_path / "rows.jsonl", chosen)
    for line, row in enumerate(chosen, 1):
        words = ("--row", line, "--model", model, "--dataset", data, "--json")
        shown = json.loads(luthier(capsys, "data", "show", data, *words).out)
        (sequence,) = shown["sequences"]
        ids = [token for piece in sequence for token in piece["ids"]]
        weights = [piece["weight"] for piece in sequence for _ in piece["ids"]]
        assert ids[0] == BOS
        assert ids[1] != BOS
        assert ids.count(BOS) == json.loads(row)["text"].count("<s>")
        assert ids[-1] == EOS
        assert weights[-1] == 1.0


def test_the_tuned_model_answers_and_stops(model, rows, tmp_path, capsys):
    data, run = written(tmp_path / "rows.jsonl", rows[:5]), tmp_path / "run"
    fast = {"torch_dtype": "float32", "r": 32, "lora_alpha": 32, "lora_dropout": 0}
    fast |= {"learning_rate": 0.01, "num_train_epochs": 40, "per_device_train_batch_size": 5}
    fast |= {"max_grad_norm": 1, "lora_target_modules": "all-linear"}
    flags = [word for name, value in fast.items() for word in (f"--{name}", value)]
    where = ("--model", model, "--dataset", data, "--output_dir", run)
    luthier(capsys, "train", RECIPE, *where, *flags)
    said = luthier(capsys, "chat", run, "--prompt", QUESTION, "--max-new-tokens", 60)
    assert said.out.strip() == ANSWER
    assert "the answer was cut" not in said.err
