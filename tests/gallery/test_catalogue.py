"""The gallery: every file is complete, every name is found, templates write the published formats."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jinja2
import pytest
import yaml
from tests.tiny import FAMILIES, tiny_config

from luthier.config.settings import Settings
from luthier.gallery import all_families, all_models, family_of, find_model, nearest_names

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi "},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye"},
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def render(text: str, messages: list[dict[str, str]], **extra: object) -> str:
    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    return environment.from_string(text).render(messages=messages, **{**SPECIAL, **extra})


def test_names_types_and_hub_ids_are_there_once():
    names = [model.name for model in all_models()]
    hubs = [model.hub for model in all_models() if model.hub]
    types = [kind for family in all_families() for kind in family.model_types]
    for values in (names, hubs, types):
        assert len(values) == len(set(values))
    assert names == [name.lower() for name in names]


@pytest.mark.parametrize("family", all_families(), ids=lambda family: family.name)
def test_a_family_is_complete(family):
    assert family.lora_targets
    assert set(family.lora_targets) <= set(family.all_linear_targets)
    assert family.models
    assert all(model.licence for model in family.models)
    assert family.packable or family.reason


def test_a_family_that_extends_another_takes_over_how_it_is_trained():
    llama, smollm = (
        next(family for family in all_families() if family.name == name)
        for name in ("llama", "smollm2")
    )
    assert smollm.model_types == ()
    assert (smollm.lora_targets, smollm.packable) == (llama.lora_targets, llama.packable)
    assert find_model("smollm2-135m").architecture["model_type"] == "llama"


def test_cards_say_where_their_facts_come_from():
    for model in all_models():
        assert all(trap.text and trap.source for trap in model.traps), model.name
        for one in model.recommended:
            assert one.source, model.name
            Settings.model_validate({"model": "m", "dataset": "d", one.setting: one.value})


def test_parts_of_a_family_file_name_models_that_are_in_it():
    folder = files("luthier.gallery") / "families"
    for family in all_families():
        fields = yaml.safe_load((folder / f"{family.name}.yaml").read_text("utf-8"))
        parts = [*fields.get("traps", ()), *fields.get("recommended", ())]
        named = {name for part in parts for name in part.get("models", ())}
        assert named <= {model.name for model in family.models}, family.name
        assert set(fields.get("shapes", ())) == {
            model["shape"] for model in fields["models"] if "shape" in model
        }


def test_models_tested_by_architecture_have_a_tiny_model_of_their_type():
    types = {tiny_config(family).model_type for family in FAMILIES}
    layouts = {family.name: set(family.model_types) for family in all_families()}
    for model in all_models():
        assert model.tested in ("weights", "architecture", "no")
        if model.tested == "architecture":
            own = (
                {model.architecture["model_type"]} if model.architecture else layouts[model.family]
            )
            assert own & types, model.name
    assert [model.name for model in all_models() if model.tested == "weights"] == ["starter"]


def test_a_recommendation_is_for_some_methods_and_objectives():
    model = find_model("smollm2-1.7b")
    assert model.recommendations("full", "sft")["learning_rate"].value == 3e-4
    assert model.recommendations("full", "dpo")["learning_rate"].value == 1e-6
    assert "learning_rate" not in model.recommendations("lora", "sft")
    assert "learning_rate" not in find_model("smollm2-1.7b-instruct").recommendations("full", "sft")


def test_models_are_found_by_name_and_hub_id():
    assert find_model("QWEN3-8B") is find_model("Qwen/Qwen3-8B")
    assert find_model("starter").hub is None
    assert find_model("qwen3-8") is None
    assert nearest_names("qwen3-8")[0] == "qwen3-8b"


def test_unknown_types_are_never_packed():
    family = family_of({"model_type": "from_the_future"})
    assert (family.known, family.packable, family.model_types) == (
        False,
        False,
        ("from_the_future",),
    )
    assert not family_of({}).known
    assert not family_of("qwen3_next").packable


def test_the_template_is_chosen_by_the_vocabulary():
    assert "[INST]" in family_of({"model_type": "llama", "vocab_size": 32000}).chat_template
    assert "<|eot_id|>" in family_of({"model_type": "llama", "vocab_size": 128256}).chat_template
    assert family_of({"model_type": "llama", "vocab_size": 49152}).chat_template is None
    assert family_of("llama").chat_template is None


def test_llama_2_writes_its_published_format():
    text = family_of({"model_type": "llama", "vocab_size": 32000}).chat_template
    assert render(text, CHAT) == (
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] Bye [/INST]"
    )
    assert render(text, CHAT[1:2]) == "<s>[INST] Hi [/INST]"


def test_mistral_writes_its_published_format():
    text = family_of({"model_type": "mistral", "vocab_size": 32000}).chat_template
    assert render(text, CHAT[1:]) == "<s>[INST] Hi [/INST] Hello.</s>[INST] Bye [/INST]"
    assert render(text, CHAT).startswith("<s>[INST] Be brief.\n\nHi [/INST]")


def test_gemma_and_llama_3_write_their_published_formats():
    gemma = family_of({"model_type": "gemma2", "vocab_size": 256000}).chat_template
    assert render(gemma, CHAT[1:], add_generation_prompt=True) == (
        "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    )
    llama3 = family_of({"model_type": "llama", "vocab_size": 128256}).chat_template
    assert render(llama3, CHAT[:2], add_generation_prompt=True) == (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


@pytest.mark.parametrize("key", [("llama", 32000), ("mistral", 32000), ("gemma2", 256000)])
def test_templates_refuse_turns_out_of_order_and_unknown_roles(key):
    text = family_of({"model_type": key[0], "vocab_size": key[1]}).chat_template
    with pytest.raises(jinja2.TemplateError, match="in turn"):
        render(text, [CHAT[1], CHAT[1]])
    with pytest.raises(jinja2.TemplateError):
        render(text, [CHAT[1], {"role": "tool", "content": "x"}])


def test_every_published_config_has_its_family(shared):
    folder = shared("model_configs")
    known = {
        path.name: family_of(json.loads(path.read_text())) for path in folder.glob("*--*.json")
    }
    assert known
    unknown = sorted(name for name, family in known.items() if not family.known)
    assert unknown == ["google--gemma-4-26B-A4B.json"]
    untrained = sorted(name for name, family in known.items() if not family.trains)
    assert untrained == ["openai--gpt-oss-120b.json", "openai--gpt-oss-20b.json"]


def test_parameter_counts_are_the_published_ones(shared):
    lines = shared("model_configs/PARAM_COUNTS.csv").read_text().splitlines()[1:]
    counts = {line.split(",")[0]: int(line.split(",")[2]) for line in lines}
    checked = {model.hub for model in all_models() if model.hub in counts}
    assert len(checked) >= 15
    for model in all_models():
        if model.hub in counts:
            assert model.parameters == counts[model.hub], model.hub


def test_the_gallery_loads_no_torch():
    code = "import sys, luthier.gallery as g; g.all_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_counts_what_is_there():
    page = (Path(__file__).parents[2] / "docs" / "gallery.md").read_text("utf-8")
    assert f"knows {len(all_models())} models of {len(all_families())} families" in page
