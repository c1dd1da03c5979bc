"""Tokenizers and templates for the tests of rendering: real ones where there are, byte-level else."""

import datetime
import json
import re
import shutil
from pathlib import Path
from typing import Any

from tests.conftest import SHARED

from luthier.data.rendering.template import ChatTemplate
from luthier.data.tokens.convert import _added, _bpe, _byte_level, _byte_names, _definition, convert
from luthier.data.tokens.tokenizer import Tokenizer
from luthier.data.tokens.tokenizer_files import TokenizerFiles
from luthier.data.types import Message, Origin

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)
ORIGIN = Origin("rows.jsonl", 7)
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string", "description": "where"}},
            "required": ["place"],
        },
    },
}
GALLERY = Path(__file__).parents[1] / "src/luthier/gallery/templates"
CONTROL = re.compile(
    r"<\|[^|<>\s{}'+]+\|>|<｜[^｜\s{}']+｜>|\[/?[A-Z_]{3,}\]|</?(?:start|end)_of_turn>|</?(?:think|tool_call|tool_response)>"
)
BUILT_IN = ("phi3", "phi4", "gemma", "minimind")
ENDS = {  # (bos, eos) of the models the templates were published with
    "google-gemma": ("<bos>", "<eos>"),
    "gemma": ("<bos>", "<eos>"),
    "Mistral": ("<s>", "</s>"),
    "mistral": ("<s>", "</s>"),
    "llama2": ("<s>", "</s>"),
    "meta-llama": ("<|begin_of_text|>", "<|eot_id|>"),
    "NousResearch": ("<|begin_of_text|>", "<|im_end|>"),
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "Phi-3": ("<s>", "<|endoftext|>"),
    "phi3": ("<s>", "<|endoftext|>"),
    "phi4": ("<|endoftext|>", "<|endoftext|>"),
    "gpt-oss": ("<|startoftext|>", "<|return|>"),
}


def sources() -> dict[str, str]:
    """Every published template at hand: the shared folder, tokenizer configs, the gallery."""
    found = {path.stem: path.read_text("utf-8") for path in sorted(GALLERY.glob("*.jinja"))}
    for path in sorted((SHARED / "chat_templates").glob("*.jinja")):
        found[path.stem] = path.read_text("utf-8")
    configs = [(name, f"tokenizers/{name}/tokenizer_config.json") for name in BUILT_IN]
    configs += [
        (f"qwen{size}", f"tokenizers/qwen/qwen{size}_tokenizer_config.json")
        for size in ("2.5", "3")
    ]
    for name, relative in configs:
        if (SHARED / relative).exists():
            found[name] = json.loads((SHARED / relative).read_text("utf-8"))["chat_template"]
    return found


SOURCES = sources()


def byte_tokenizer(
    control: tuple[str, ...],
    *,
    bos: str = "",
    eos: str = "",
    pad: str = "",
    plain: tuple[str, ...] = (),
) -> Tokenizer:
    """One token a byte, and these control tokens."""
    vocabulary = {name: number for number, name in enumerate(_byte_names().values())}
    texts = [*dict.fromkeys(text for text in (*control, bos, eos, pad, *plain) if text)]
    definition = _definition(
        model=_bpe(vocabulary, []),
        added=[_added(text, 256 + at, special=text not in plain) for at, text in enumerate(texts)],
        pre_tokenizer=_byte_level(use_regex=False),
        decoder=_byte_level(),
    )
    roles = {"bos_token": bos, "eos_token": eos, "pad_token": pad}
    roles = {role: text for role, text in roles.items() if text}
    return Tokenizer(TokenizerFiles(definition, {}, roles, (), None, "test"))


def tokenizer_for(name: str, source: str) -> Tokenizer:
    """A byte-level tokenizer that has the control tokens a template writes."""
    bos, eos = next((ends for key, ends in ENDS.items() if key in name), ("", "<|im_end|>"))
    control = list(CONTROL.findall(source))
    control += [f"<|{role}|>" for role in ("system", "user", "assistant")] if name == "phi4" else []
    return byte_tokenizer(tuple(dict.fromkeys(control)), bos=bos, eos=eos, pad=eos)


def chat_template(source: str, tokenizer: Tokenizer, **kwargs: Any) -> ChatTemplate:
    return ChatTemplate(source, tokenizer=tokenizer, now=NOW, kwargs=kwargs)


VOCABULARIES = {  # golden vectors, source to convert, config
    "llama2": ("llama-spm", "llama2/tokenizer.model", "llama2/tokenizer_config.json"),
    "qwen2.5": ("qwen2", "qwen/qwen.tiktoken", "qwen/qwen2.5_tokenizer_config.json"),
    "llama3": ("llama-bpe", "llama3/tokenizer.model", None),
    "gpt2": ("gpt-2", "gpt2/vocab.json", None),
}


def folder(target: Path, **files: str) -> Path:
    """A tokenizer folder of copies of shared files: name in the folder (dots as __) = shared path."""
    target.mkdir(parents=True, exist_ok=True)
    for name, relative in files.items():
        shutil.copyfile(SHARED / "tokenizers" / relative, target / name.replace("__", "."))
    return target


def converted(target: Path, source: str, config: str | None = None) -> Path:
    """A folder with the tokenizer.json that `convert` makes of a shared file."""
    target.mkdir(parents=True, exist_ok=True)
    made = json.dumps(convert(SHARED / "tokenizers" / source), ensure_ascii=False)
    (target / "tokenizer.json").write_text(made, "utf-8")
    if config is not None:
        shutil.copyfile(SHARED / "tokenizers" / config, target / "tokenizer_config.json")
    return target


def chat(*turns: str, system: str | None = None) -> tuple[Message, ...]:
    """User and assistant in turn."""
    made = [Message("user" if at % 2 == 0 else "assistant", text) for at, text in enumerate(turns)]
    return (*((Message("system", system),) if system is not None else ()), *made)
