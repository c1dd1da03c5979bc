"""The result folder of a run, opened by others: PEFT, transformers, and a reader of its card."""

import json

import pytest
import torch
from peft import PeftModel
from tests.recipes.conftest import sft_rows, written
from tests.tiny import tiny_model_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from luthier.config import read
from luthier.data.types import Conversation, Message, Origin
from luthier.errors import SettingsError
from luthier.models.build import generation_mode
from luthier.recipes.after.open_model import open_model
from luthier.recipes.run.train import run
from luthier.recipes.written.model_card import card

IDS = torch.arange(3, 27)[None]
TURNS = [{"role": "user", "content": "say 3"}, {"role": "assistant", "content": "it is 3"}]


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


# PEFT 0.21 asks for a name that transformers 5.23 has deprecated.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_the_adapter_of_a_run_opens_in_peft(finished):
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(finished.base), finished.sft.result
    ).eval()
    ours = open_model(str(finished.sft.path)).model
    with generation_mode(ours):
        assert torch.allclose(logits(theirs), logits(ours), atol=1e-4)


def test_the_whole_model_of_a_run_opens_in_transformers(finished):
    theirs = AutoModelForCausalLM.from_pretrained(finished.full.result).eval()
    ours = open_model(str(finished.full.path)).model
    with generation_mode(ours):
        assert torch.equal(logits(theirs), logits(ours))


@pytest.mark.parametrize("name", ["sft", "full"])
def test_its_template_renders_a_row_as_it_was_trained(finished, name):
    ended = getattr(finished, name)
    renderer = open_model(str(ended.path)).renderer
    messages = tuple(Message(turn["role"], turn["content"]) for turn in TURNS)
    sample = Conversation(messages, Origin("rows.jsonl", 1))
    (sequence,) = renderer.render(sample).sequences
    theirs = AutoTokenizer.from_pretrained(ended.result)
    ids = theirs.apply_chat_template(TURNS, tokenize=True, return_dict=False)
    assert sequence.ids.tolist() == ids[: len(sequence.ids)]
    assert theirs.decode(ids[len(sequence.ids) :]).strip() == ""


def test_a_template_the_tokenizer_lacked_lies_beside_the_result(tmp_path):
    base = tiny_model_folder(tmp_path / "base")
    path = base / "tokenizer_config.json"
    fields = json.loads(path.read_text())
    del fields["chat_template"]
    path.write_text(json.dumps(fields))
    data = written(tmp_path / "rows.jsonl", sft_rows(range(4)))
    given = {"model": str(base), "dataset": data, "max_steps": 1, "torch_dtype": "float32"}
    ended = run(read.load({**given, "output_dir": str(tmp_path / "run")}))
    saved = json.loads((ended.result / "rendering.json").read_text())
    assert (ended.result / "chat_template.jinja").read_text() == saved["chat_template"]
    assert AutoTokenizer.from_pretrained(ended.result).chat_template == saved["chat_template"]


def test_settings_of_a_starting_adapter_may_not_be_contradicted(finished, tmp_path):
    given = {"model": str(finished.sft.path), "dataset": finished.files["sft"], "max_steps": 1}
    given |= {"output_dir": str(tmp_path / "run"), "lora_dim": 8, "lora_alpha": 3}
    with pytest.raises(SettingsError) as caught:
        run(read.load(given))
    assert "lora_dim: 8, the adapter has 4" in caught.value.what
    assert "lora_alpha: 3, the adapter has 4" in caught.value.what


def test_what_is_not_said_is_taken_from_the_starting_adapter(finished):
    saved = json.loads((finished.dpo.path / "settings.json").read_text())
    assert saved["settings"]["lora_dim"] == 4
    assert saved["provenance"]["lora_dim"].startswith("chosen: that of the adapter")


def test_rows_that_are_learned_from_and_held_out_are_counted(finished, tmp_path):
    given = {"model": str(finished.base), "dataset": finished.files["sft"], "max_steps": 1}
    given |= {"eval_dataset": finished.files["sft"], "output_dir": str(tmp_path / "run")}
    said = []
    run(read.load(given), on_event=lambda event: said.append(getattr(event, "text", "")))
    assert [text for text in said if "12 of 12 held-out rows are also learned from" in text]


def test_the_card_says_what_was_measured_and_no_path_of_this_machine(finished):
    text = (finished.sft.result / "README.md").read_text()
    assert "library_name: peft" in text
    assert "base_model: base" in text
    assert str(finished.base) not in text
    assert "| `lora_dim` | 4 |" in text
    assert "- train: 12 of 12 rows" in text
    assert "| loss | " in text


def test_the_card_names_the_licence_of_a_known_base():
    text = card(kind="merged", base="Qwen/Qwen3-0.6B", version="1", notes={"precision": "bfloat16"})
    assert "library_name: transformers" in text
    assert "| its licence | Apache-2.0 |" in text
    assert "| precision | bfloat16 |" in text
