"""Three layers of defaults: library, the card of the model, and whoever gives a value."""

import json

import pytest

from luthier.config.read import Resolved, load
from luthier.gallery import all_models
from luthier.recipes.before.card_settings import follow_card
from luthier.recipes.run import train


def settings(**values):
    return load(arguments={"model": "m", "dataset": ["d"], **values})


def test_the_card_takes_the_place_of_the_librarys_default():
    found = follow_card(settings(method="full"), "HuggingFaceTB/SmolLM2-1.7B")
    assert (found.settings.learning_rate, found.settings.num_train_epochs) == (3e-4, 2.0)
    assert found.provenance["learning_rate"].startswith("gallery smollm2-1.7b: alignment-handbook")
    assert found.layer("learning_rate") == "gallery"
    assert found.layer("method") == "user"
    assert found.layer("seed") == "library"


def test_what_somebody_gave_wins_over_the_card():
    found = follow_card(settings(method="full", learning_rate=1e-5), "smollm2-1.7b")
    assert found.settings.learning_rate == 1e-5
    assert found.layer("learning_rate") == "user"
    assert found.layer("num_train_epochs") == "gallery"


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("/some/folder", {"method": "full"}),
        ("smollm2-1.7b", {"method": "lora"}),
        ("smollm2-1.7b", {"method": "full", "from_scratch": True}),
    ],
)
def test_other_models_methods_and_random_weights_keep_the_librarys(model, values):
    before = settings(**values)
    assert follow_card(before, model) is before


def test_a_decision_survives_the_settings_file():
    found = follow_card(settings(method="full"), "smollm2-1.7b")
    found = found.fill(lora_alpha=(16.0, "a reason"))
    again = Resolved.from_dict(json.loads(found.to_json()))
    assert again.decided() == found.decided()
    assert again.decided()["lora_alpha"] == (16.0, "a reason")
    assert again.fill(**again.decided()).provenance == found.provenance
    assert [again.layer(name) for name in ("learning_rate", "lora_alpha")] == ["gallery", "library"]


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_every_card_gives_settings_that_are_allowed(method, objective):
    for model in all_models():
        found = follow_card(settings(method=method, objective=objective), model.name)
        wanted = model.recommendations(method, objective)
        assert {name for name in wanted if found.layer(name) != "gallery"} == set()
        assert all(getattr(found.settings, name) == one.value for name, one in wanted.items())


def test_a_run_says_which_layer_each_value_came_from(tmp_path):
    rows = tmp_path / "rows.jsonl"
    row = {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    }
    rows.write_text("\n".join(json.dumps(row) for _ in range(4)))
    result = train.run(
        load(
            arguments={
                "model": "starter", "dataset": [str(rows)], "output_dir": str(tmp_path / "run"),
                "max_steps": 1, "bad_rows": "drop", "save_strategy": "no",
            }
        )
    )  # fmt: skip
    saved = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert saved["settings"]["learning_rate"] == 4e-3
    assert saved["provenance"]["learning_rate"].startswith("gallery starter: luthier demo")
    assert saved["provenance"]["lora_alpha"].startswith("chosen: ")
    assert saved["provenance"]["max_steps"] == "argument max_steps"
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["chosen"]["learning_rate"] == [4e-3, saved["provenance"]["learning_rate"]]
    assert result is not None
