"""Settings from files, mappings and flags."""

import json
import pickle

import pytest

from luthier.config.names import ALIASES, FOREIGN, FOREIGN_BOOLEANS
from luthier.config.read import Resolved, load, load_saved
from luthier.config.settings import Settings
from luthier.errors import ConfigFileError, SettingsError, UsageError

FREE = {"model": "starter", "dataset": "rows.jsonl"}


def written(folder, text, name="run.yaml"):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_every_value_says_where_it_came_from(tmp_path):
    path = written(
        tmp_path, "model: starter\n\ndataset: rows.jsonl\nlora_rank: 8\nlearning_rate: 1e-4\n"
    )
    found = load(path, {"seed": "7", "r": "4"})
    assert found.settings.learning_rate == 1e-4
    assert found.settings.lora_dim == 4
    asked = {name: where for name, where in found.provenance.items() if where != "default"}
    assert asked == {
        "model": "run.yaml line 1",
        "dataset": "run.yaml line 3",
        "learning_rate": "run.yaml line 5",
        "seed": "--seed",
        "lora_dim": "alias r, --r",
    }
    assert found.provenance.keys() == Settings.model_fields.keys()
    assert "lora_rank is read as lora_dim" in found.notices
    assert "--seed" in found.config_text
    assert "lora_rank: 8" in found.config_text


def test_what_follows_from_others_says_so():
    found = load({**FREE, "load_in_4bit": True})
    assert found.settings.method == "qlora"
    assert found.provenance["method"] == "follows from the settings given"


def test_a_flag_wins_over_an_argument_and_an_argument_over_the_file(tmp_path):
    path = written(tmp_path, "model: m\ndataset: a.jsonl\nseed: 1\nlora_dim: 1\nlora_alpha: 1\n")
    found = load(path, {"seed": "3"}, arguments={"seed": 2, "r": 2, "dataset": tmp_path / "a,b"})
    assert (found.settings.seed, found.settings.lora_dim, found.settings.lora_alpha) == (3, 2, 1)
    assert found.settings.dataset == (str(tmp_path / "a,b"),)
    assert found.provenance["lora_dim"] == "alias r, argument r"
    assert found.provenance["lora_alpha"] == "run.yaml line 5"


def test_settings_json_round_trips_with_provenance(tmp_path):
    found = load({**FREE, "lora_dim": 8, "chat_template_kwargs": {"a": [1, {"b": None}]}})
    filled = found.fill(learning_rate=(2e-4, "an adapter"), lora_alpha=(8.0, "equal to lora_dim"))
    assert filled.provenance["learning_rate"] == "chosen: an adapter"
    assert not filled.is_given("learning_rate")
    assert filled.is_given("lora_dim")
    path = written(tmp_path, filled.to_json(), "settings.json")
    again = load_saved(path)
    assert again == filled
    assert again.to_json() == filled.to_json()
    assert load(path).settings == filled.settings  # an earlier run's settings are a config too
    assert pickle.loads(pickle.dumps(filled)) == filled


def test_filling_full_parameter_settings_contradicts_nothing():
    found = load({**FREE, "method": "full"}).fill(learning_rate=(1e-5, "because"))
    assert Resolved.from_dict(json.loads(found.to_json())) == found


@pytest.mark.parametrize("damage", ["{}", "[]", "{", '{"settings": {}, "provenance": {}}', "\xff"])
def test_damaged_settings_json_is_refused(tmp_path, damage):
    path = tmp_path / "settings.json"
    path.write_text(damage, "latin-1")
    with pytest.raises(SettingsError):
        load_saved(path)


def test_all_problems_come_in_one_message():
    bad = {"model": "m", "learning_rat": 1, "dpo_beta": -1, "method": "full", "lora_dim": 64}
    with pytest.raises(SettingsError) as caught:
        load(bad)
    for part in (
        "4 problems",
        "learning_rat is not a setting, did you mean learning_rate?",
        "dpo_beta=-1",
        "dataset is not given",
        "method: full and lora_dim: 64 exclude each other",
    ):
        assert part in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lora_rank": 8, "r": 8}, "lora_rank and r are both given"),
        ({"lora_dim": 8, "lora_rank": 8}, "both names mean lora_dim"),
        ({"bf16": True, "torch_dtype": "float16"}, "disagree"),
        ({"bf16": True, "fp16": True}, "both decide torch_dtype"),
        ({"trust_remote_code": True}, "code is never run"),
        ({"bias": "all"}, "only `none`"),
        ({"warmup_steps": 100}, "warmup_ratio = warmup_steps / steps"),
        ({"bf16": "yes"}, "should be true or false"),
        ({"quantization_bit": 3}, "4 and 8 bits"),
        ({"devices": "mps"}, "CUDA_VISIBLE_DEVICES="),
        ({"epochs": -1}, "alias epochs"),
        ({"сontent": 1}, "сontent is not a setting"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, message):
    with pytest.raises(SettingsError, match=message.replace(".", r"\.")):
        load({**FREE, **given})


@pytest.mark.parametrize(
    ("given", "setting", "value"),
    [
        ({"group_by_length": True}, None, None),
        ({"dataset_text_field": "text"}, None, None),
        ({"dataset_text_field": "body"}, "columns", {"text": "body"}),
        ({"bias": "none"}, None, None),
        ({"device_map": "auto"}, None, None),
        ({"device_map": {"": 0}}, None, None),
        ({"max_steps": -1}, "max_steps", None),
        ({"save_strategy": "steps"}, None, None),
        ({"save_strategy": "epoch"}, "save_steps", "epoch"),
        ({"eval_strategy": "epoch"}, "eval_steps", "epoch"),
        ({"fp16": True}, "torch_dtype", "float16"),
        ({"bf16": False}, "torch_dtype", "auto"),
        ({"bf16": True, "torch_dtype": "bf16"}, "torch_dtype", "bfloat16"),
        ({"bnb_4bit_compute_dtype": "torch.float16"}, "torch_dtype", "float16"),
        ({"use_cache": False}, None, None),
        ({"pretraining_tp": 1}, None, None),
        ({"padding_side": "right"}, None, None),
        ({"trust_remote_code": False}, None, None),
        ({"warmup_steps": 0}, "warmup_ratio", 0.0),
        ({"train_on_inputs": True}, "train_on", "all"),
        ({"assistant_only_loss": True}, "train_on", "assistant"),
        ({"quantization_bit": 8}, "load_in_8bit", True),
        ({"packing": True}, None, None),
    ],
)
def test_settings_of_other_tools_are_accepted_and_reported(given, setting, value):
    found = load({**FREE, **given})
    name = next(iter(given))
    assert any(notice.startswith(name) for notice in found.notices), found.notices
    if setting is not None:
        assert getattr(found.settings, setting) == value


def test_no_name_has_two_meanings():
    assert not ALIASES.keys() & Settings.model_fields.keys()
    assert not ALIASES.keys() & FOREIGN.keys()
    assert not FOREIGN.keys() & Settings.model_fields.keys()
    assert set(ALIASES.values()) <= Settings.model_fields.keys()
    assert FOREIGN.keys() >= FOREIGN_BOOLEANS


def test_the_flags_of_the_well_known_tutorial_carry_over():
    found = load(
        {
            "model_name": "NousResearch/Llama-2-7b-chat-hf",
            "dataset_name": "mlabonne/guanaco-llama2-1k",
            "lora_r": 64,
            "lora_alpha": 16,
            "lora_dropout": 0.1,
            "use_4bit": True,
            "bnb_4bit_compute_dtype": "float16",
            "bnb_4bit_quant_type": "nf4",
            "use_nested_quant": False,
            "output_dir": "./results",
            "num_train_epochs": 1,
            "fp16": False,
            "bf16": False,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": True,
            "max_grad_norm": 0.3,
            "learning_rate": 2e-4,
            "weight_decay": 0.001,
            "optim": "paged_adamw_32bit",
            "lr_scheduler_type": "constant",
            "max_steps": -1,
            "warmup_ratio": 0.03,
            "group_by_length": True,
            "save_steps": 25,
            "logging_steps": 25,
            "packing": False,
            "device_map": {"": 0},
            "report_to": "tensorboard",
        }
    )
    assert found.settings.method == "qlora"
    assert found.settings.torch_dtype == "float16"
    assert not found.settings.bnb_4bit_use_double_quant
    assert any("warmup_ratio is ignored" in notice for notice in found.notices)
    assert any("nothing is padded" in notice for notice in found.notices)


@pytest.mark.parametrize(
    ("flags", "setting", "value"),
    [
        ({"dataset": "a.jsonl,b.jsonl"}, "dataset", ("a.jsonl", "b.jsonl")),
        ({"dataset": ["a.jsonl", "b.jsonl"]}, "dataset", ("a.jsonl", "b.jsonl")),
        ({"lora_target_modules": "q_proj,v_proj"}, "lora_target_modules", ("q_proj", "v_proj")),
        ({"target_modules": "all-linear"}, "lora_target_modules", ("all-linear",)),
        ({"lora_target_modules": "null"}, "lora_target_modules", None),
        ({"columns": "prompt=q,completion=a"}, "columns", {"prompt": "q", "completion": "a"}),
        ({"columns": "{prompt: q}"}, "columns", {"prompt": "q"}),
        (
            {"chat_template_kwargs": "enable_thinking=false"},
            "chat_template_kwargs",
            {"enable_thinking": False},
        ),
        ({"save_total_limit": "null"}, "save_total_limit", None),
        ({"learning_rate": "1e-4"}, "learning_rate", 1e-4),
        ({"system_prompt": "true"}, "system_prompt", "true"),
        ({"system_prompt": "1, 2, 3"}, "system_prompt", "1, 2, 3"),
        ({"resume": "false"}, "resume", False),
    ],
)
def test_words_of_a_flag_become_values(flags, setting, value):
    assert getattr(load(FREE, flags).settings, setting) == value


@pytest.mark.parametrize("text", ["text", "{a: b", "a=b,c"])
def test_words_that_are_no_mapping_are_refused(text):
    with pytest.raises(UsageError, match="--columns"):
        load(FREE, {"columns": text})


def test_a_very_high_learning_rate_is_pointed_at():
    assert any("very high" in notice for notice in load({**FREE, "lr": 0.05}).notices)


@pytest.mark.parametrize("name", [".", "absent.yaml", "/dev/null/x"])
def test_a_config_that_is_no_file_is_refused(tmp_path, name):
    with pytest.raises(ConfigFileError):
        load(tmp_path / name)
