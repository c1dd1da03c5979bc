"""Counts from architecture numbers against the published ones, tensor by tensor where there is a list."""

import csv
import json

import pytest

from luthier.errors import ArchitectureError
from luthier.gallery import (
    all_models,
    count_active_parameters,
    count_parameters,
    find_model,
    tensor_shapes,
)

NUMBERS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "vocab_size",
)  # fmt: skip
NOT_COUNTED = ("Qwen--Qwen3.5-27B.json", "google--gemma-4-26B-A4B.json")
"""Layers of other kinds, and towers for pictures: no count of theirs is published to compare with."""


def rows(shared):
    with shared("model_configs/PARAM_COUNTS.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def config_of(row, shared):
    """The published config, or, for the rows without one, the dimensions of the row itself."""
    if row["config_file"]:
        return json.loads(shared(f"model_configs/{row['config_file']}").read_text("utf-8"))
    return {name: int(row[name]) for name in NUMBERS} | {
        "model_type": row["model_type"],
        "tie_word_embeddings": row["tied_embeddings"] == "True",
    }


def test_every_published_count_is_met_exactly(shared):
    wrong = {
        row["model"]: (count_parameters(config), count_active_parameters(config))
        for row in rows(shared)
        for config in [config_of(row, shared)]
        if (count_parameters(config), count_active_parameters(config))
        != (int(row["params_total"]), int(row["params_active"]))
    }
    assert wrong == {}
    assert len(rows(shared)) == 34


def test_every_config_is_counted_or_says_why_not(shared):
    published = sorted(shared("model_configs").glob("*--*.json"))
    assert len(published) == 34
    for path in published:
        config = json.loads(path.read_text("utf-8"))
        if path.name in NOT_COUNTED:
            with pytest.raises(ArchitectureError, match="cannot be counted"):
                count_parameters(config)
        else:
            assert count_parameters(config) > 0


@pytest.mark.parametrize(
    ("listed", "config", "extra"),
    [
        ("Meta-Llama-3.1-8B", "meta-llama--Meta-Llama-3.1-8B", {}),
        # The published files of Qwen3-4B hold the tied head a second time.
        ("Qwen3-4B", "Qwen--Qwen3-4B", {"lm_head.weight": (151936, 2560)}),
    ],
)
def test_every_tensor_has_its_published_name_and_shape(shared, listed, config, extra):
    text = shared(f"model_configs/tensor_shapes_{listed}.json").read_text("utf-8")
    published = {name: tuple(shape) for name, shape in json.loads(text).items()}
    numbers = json.loads(shared(f"model_configs/{config}.json").read_text("utf-8"))
    assert tensor_shapes(numbers) | extra == published


def test_cards_carry_the_count_of_their_own_numbers():
    counted = [model for model in all_models() if model.architecture]
    assert len(counted) >= 70
    for model in counted:
        assert count_parameters(model.architecture) == model.parameters, model.name


def test_cards_have_the_numbers_of_the_published_configs(shared):
    """Where the config of a hub id is there, every number on its card is that of the config."""
    checked = 0
    for model in all_models():
        path = shared("model_configs") / f"{(model.hub or '').replace('/', '--')}.json"
        if not model.architecture or not path.is_file():
            continue
        config = json.loads(path.read_text("utf-8"))
        tied = config.get("tie_word_embeddings", model.family == "gemma")
        told = {**config, "tie_word_embeddings": tied}
        assert {name: told.get(name) for name in model.architecture} == dict(model.architecture)
        assert model.context == config["max_position_embeddings"], model.name
        checked += 1
    assert checked >= 22


def test_the_starter_has_as_many_parameters_as_its_card_says():
    from safetensors import safe_open

    from luthier.sources.source import starter_folder

    with safe_open(starter_folder() / "model.safetensors", framework="np") as file:
        held = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert held == tensor_shapes(find_model("starter").architecture)


def test_an_unknown_layout_is_refused():
    with pytest.raises(ArchitectureError, match="from_the_future"):
        count_parameters({"model_type": "from_the_future"})
