"""A Modelfile gives Ollama what training gave the model; checked by ids, and by the rules of its documentation."""

import json
import re

import pytest
from tests.exchange.test_gguf import run_command
from tests.tiny import tiny_model_folder

from luthier.data.types import Message
from luthier.errors import TemplateError
from luthier.exchange.lint import check_modelfile
from luthier.exchange.modelfile import Around, measure
from luthier.recipes.after.export_ollama import modelfile_of
from luthier.sources.source import resolve_source

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
DEFAULT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
)
MERGED = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% if m.role == 'user' %}<|im_start|>{{ m.content }}<|im_end|>{% else %}{{ m.content }}"
    "<|endoftext|>{% endif %}{% endfor %}"
)


def folder_with(path, template):
    folder = tiny_model_folder(path, "llama")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    return folder


def go(text, messages):
    """What Ollama's engine makes of a template of this form, by the meaning of its actions."""
    system = any(message.role == "system" for message in messages)
    begin = re.match(r"\{\{ if not \.System \}\}(.*?)\{\{ end \}\}", text, re.S)
    made = begin[1] if begin and not system else ""
    parts = {
        "system": r'eq \.Role "system" \}\}(.*?)\{\{ \.Content \}\}(.*?)\{\{ end \}\}',
        "user": r'eq \.Role "user" \}\}\{\{ \.Content \}\}\{\{ if \$last \}\}(.*?)\{\{ else \}\}(.*?)\{\{ end \}\}',
        "assistant": r'eq \.Role "assistant" \}\}\{\{ \.Content \}\}\{\{ if not \$last \}\}(.*?)\{\{ end \}\}',
    }
    for place, message in enumerate(messages):
        found = re.search(parts[message.role], text, re.S)
        last = place == len(messages) - 1
        if message.role == "system":
            made += found[1] + message.content + found[2]
        elif message.role == "user":
            made += message.content + (found[1] if last else found[2])
        else:
            made += message.content + ("" if last else found[1])
    return made


@pytest.mark.parametrize("template", [CHATML + OPEN, DEFAULT + CHATML + OPEN, MERGED])
def test_the_template_gives_the_ids_of_training(template, tmp_path):
    folder = folder_with(tmp_path / "model", template)
    text = modelfile_of(resolve_source(str(folder)), "model-f16.gguf")
    assert text.startswith('FROM ./model-f16.gguf\nTEMPLATE """')
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER num_ctx 256" in text
    written = re.search(r'TEMPLATE """(.*?)"""', text, re.S)[1]
    turns = [Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "A?\nB")]
    said = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
    said += "<|im_start|>user\nA?\nB<|im_end|>\n<|im_start|>assistant\n"
    if template == MERGED:
        said = "<|im_start|>Hi<|im_end|>Ho<|endoftext|><|im_start|>A?\nB<|im_end|>"
    if template.startswith(DEFAULT):
        said = "<|im_start|>system\nBe brief.<|im_end|>\n" + said
    assert go(written, turns) == said


def test_a_template_without_a_system_role_has_its_text_before_the_question(tmp_path):
    folder = folder_with(tmp_path / "model", MERGED)
    text = modelfile_of(resolve_source(str(folder)), "model-f16.gguf")
    written = re.search(r'TEMPLATE """(.*?)"""', text, re.S)[1]
    turns = [Message("system", "Be brief."), Message("user", "Hi")]
    assert go(written, turns) == "<|im_start|>Be brief.\n\nHi<|im_end|>"


def test_a_template_without_a_form_in_ollama_is_refused(tmp_path):
    fifth = "{% if loop.index > 4 %}!{% endif %}{{ m.content }}"
    later = CHATML.replace("{{ m.content }}", fifth)
    folder = folder_with(tmp_path / "model", later + OPEN)
    with pytest.raises(TemplateError, match="other tokens than in training"):
        modelfile_of(resolve_source(str(folder)), "x.gguf")
    with pytest.raises(TemplateError, match="own language"):
        measure(lambda messages: "{{" + "".join(m.content for m in messages))
    with pytest.raises(TemplateError, match="leaves out or moves"):
        measure(lambda messages: messages[-1].content)


def test_a_bos_that_llama_cpp_writes_is_not_written_twice():
    around = measure(lambda ms: "<s>" + "|".join(m.content for m in ms), bos="<s>")
    assert around == Around("", ("", "|"), "|", "|", "|")


def test_the_command_makes_a_folder_that_ollama_can_create_from(tmp_path, capsys):
    out = tmp_path / "out"
    run_command("export", "starter", "--to", "ollama", "--output", str(out))
    names = sorted(path.name for path in out.iterdir())
    assert names == ["Modelfile", "README.md", "manifest.json", "model-f16.gguf"]
    assert check_modelfile(out / "Modelfile").remarks == []
    assert "ollama create" in (out / "README.md").read_text("utf-8")
