"""What llama.cpp, Ollama and LM Studio make of a GGUF file, from what the file says of itself."""

from pathlib import Path
from typing import Any

import gguf

from luthier.errors import ModelError
from luthier.exchange.lint import Checked, Remark, Tool


def check_gguf_file(path: Path) -> Checked:
    """Look at the keys and tensors of a file.

    Raises:
        ModelError: It is no GGUF file.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ModelError(
            f"{path} cannot be read as GGUF",
            why=str(error) or type(error).__name__,
            fix="write or fetch the file again",
        ) from error
    names = {tensor.name for tensor in reader.tensors}
    if _value(reader, "general.type") == "adapter":
        return _adapter(path, names)
    from_modelfile = "it takes TEMPLATE and stop from a Modelfile, not from this file"
    remarks = [Remark("ollama", "note", from_modelfile, "--to ollama writes both")]
    lacks = {
        "dialogues: the file has no chat template": not _value(reader, "tokenizer.chat_template"),
        "ends: the file names none": _value(reader, "tokenizer.ggml.eos_token_id") is None,
    }
    tools: tuple[Tool, ...] = ("llama.cpp", "ollama", "lmstudio")
    remarks += [
        Remark(tool, "gets wrong", what, "--to gguf")
        for what, lacking in lacks.items()
        if lacking
        for tool in tools
    ]
    commands: dict[Tool, str] = {
        "llama.cpp": f"llama-server -m {path}",
        "ollama": f"ollama create tuned -f {path.parent / 'Modelfile'}",
        "lmstudio": f"lms import --user-repo you/tuned {path}",
    }
    return Checked(path, "gguf", remarks, commands)


def _adapter(path: Path, names: set[str]) -> Checked:
    remarks = [
        Remark(
            "ollama", "refuses", "ADAPTER in a Modelfile, since 0.34.1", "--to ollama merges it"
        ),
        Remark("lmstudio", "refuses", "adapters: it has none", "--to gguf merges it"),
    ]
    odd = sorted(name for name in names if not name.endswith((".lora_a", ".lora_b")))
    if odd:
        remarks.append(Remark("llama.cpp", "refuses", f"tensor {odd[0]}", "--to gguf-adapter"))
    commands: dict[Tool, str] = (
        {} if odd else {"llama.cpp": f"llama-server -m BASE.gguf --lora {path}"}
    )
    return Checked(path, "gguf adapter", remarks, commands)


def _value(reader: gguf.GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()
