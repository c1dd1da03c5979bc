"""What other tools refuse in a folder or file, or silently get wrong, and the command that serves it there.

Only what is written in the tools' own documentation or source is said; nothing of them is run here.

Sources: vLLM docs, api/vllm/lora/peft_helper and config/lora (0.22); SGLang docs, lora; llama.cpp,
convert_lora_to_gguf.py and src/llama-adapter.cpp; Ollama docs, modelfile.md and import.mdx (0.34);
mlx-lm, tuner/utils.py; LM Studio docs, lms import.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from luthier.bounded import read_object
from luthier.errors import ModelError
from luthier.exchange.gguf_shapes import ARCHITECTURES
from luthier.exchange.tensors import read_adapter_tensors, read_tensors
from luthier.sources.adapter_config import CONFIG, read_adapter_config

Tool = Literal["vllm", "sglang", "llama.cpp", "ollama", "mlx", "lmstudio"]
Effect = Literal["refuses", "gets wrong", "note"]
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
MODELFILE_WORDS = (
    "FROM",
    "PARAMETER",
    "TEMPLATE",
    "SYSTEM",
    "ADAPTER",
    "LICENSE",
    "MESSAGE",
    "REQUIRES",
)
MODELFILE_PARAMETERS = (
    "num_ctx", "repeat_last_n", "repeat_penalty", "temperature", "seed", "stop", "num_predict",
    "draft_num_predict", "top_k", "top_p", "min_p",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remark:
    """What one tool does with what is there.

    Args:
        effect: `refuses` ends with its error; `gets wrong` gives other answers without one.
        fix: Something to do, with luthier or in the tool.
    """

    tool: Tool
    effect: Effect
    what: str
    fix: str


@dataclass(frozen=True)
class Checked:
    """What was looked at, what was found, and how each tool that can serve it is started.

    Args:
        kind: `adapter`, `model`, `gguf` or `modelfile`.
    """

    path: Path
    kind: str
    remarks: list[Remark]
    commands: dict[Tool, str]


def check_path(path: Path) -> Checked:
    """Look at an adapter's or a model's folder, a GGUF file, or a Modelfile.

    Raises:
        ModelError: It is none of these, or cannot be read.
    """
    if path.is_dir():
        if (path / CONFIG).is_file():
            return check_adapter(path)
        if (path / "config.json").is_file():
            return check_model(path)
        if (path / "Modelfile").is_file():
            return check_modelfile(path / "Modelfile")
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return check_path(files[0])
    elif path.suffix == ".gguf":
        from luthier.exchange.lint_gguf import check_gguf_file  # the package is an extra

        return check_gguf_file(path)
    elif path.name.startswith("Modelfile"):
        return check_modelfile(path)
    raise ModelError(
        f"{path} is no adapter, model, GGUF file or Modelfile",
        why="its kind is known by adapter_config.json, config.json, .gguf or its name",
        fix="luthier export RUN --to merged --output FOLDER makes one",
    )


# -- adapters


def check_adapter(folder: Path) -> Checked:
    """What each tool makes of an adapter in PEFT's format."""
    config = read_adapter_config(folder)
    shapes = read_adapter_tensors(folder).shapes
    remarks = [*_adapter_in_vllm(config, shapes), *_adapter_in_llama_cpp(config, shapes)]
    remarks += [
        Remark(
            "ollama", "refuses", "ADAPTER in a Modelfile, since 0.34.1", "--to ollama merges it"
        ),
        Remark("lmstudio", "refuses", "adapters: it has none", "--to gguf merges it"),
        Remark("mlx", "refuses", "adapters of PEFT: its own have other files", "--to merged"),
    ]
    rank = max(_ranks(shapes), default=1)
    base = config.get("base_model_name_or_path") or "BASE"
    room = next((one for one in VLLM_RANKS if one >= rank), 0)
    commands: dict[Tool, str] = {}
    broken = {remark.tool for remark in remarks if remark.effect == "refuses"}
    if "vllm" not in broken:
        commands["vllm"] = (
            f"vllm serve {base} --enable-lora --max-lora-rank {room} --lora-modules tuned={folder}"
        )
    if "sglang" not in broken:
        commands["sglang"] = (
            f"python -m sglang.launch_server --model-path {base} --enable-lora "
            f"--max-lora-rank {rank} --lora-paths tuned={folder}"
        )
    if "llama.cpp" not in broken:
        commands["llama.cpp"] = (
            f"luthier export {folder} --to gguf-adapter --output lora, then "
            "llama-server -m BASE.gguf --lora lora/adapter-f32.gguf"
        )
    return Checked(folder, "adapter", remarks, commands)


def _ranks(shapes: Mapping[str, tuple[int, ...]]) -> set[int]:
    return {shape[0] for name, shape in shapes.items() if name.endswith("lora_A.weight")}


def _adapter_in_vllm(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Remark]:
    rank = max(_ranks(shapes), default=1)
    for tool in ("vllm", "sglang"):
        if config.get("use_dora"):
            yield Remark(tool, "refuses", "DoRA", "--to merged")
        if config.get("modules_to_save"):
            names = ", ".join(config["modules_to_save"])
            yield Remark(tool, "refuses", f"modules trained whole: {names}", "--to merged")
        if len(_ranks(shapes)) > 1 or config.get("rank_pattern") or config.get("alpha_pattern"):
            yield Remark(
                tool, "gets wrong", "ranks or alphas by pattern: it reads one r and one lora_alpha",
                "--to merged",
            )  # fmt: skip
        other = [
            name
            for name in shapes
            if not name.endswith(("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"))
        ]
        if other and not config.get("modules_to_save"):
            yield Remark(tool, "refuses", f"tensor {other[0]}", "--to merged")
    if rank > max(VLLM_RANKS):
        yield Remark(
            "vllm", "refuses", f"rank {rank}: {max(VLLM_RANKS)} is its largest", "--to merged"
        )
    elif rank > 16:
        yield Remark(
            "vllm", "note", f"rank {rank} is refused without --max-lora-rank", "the command has it"
        )
    base = str(config.get("base_model_name_or_path") or "")
    if not base or Path(base).is_absolute():
        yield Remark(
            "vllm", "note", f"the base is named {base or 'nowhere'}: no name that others can fetch",
            "give the base as the model to serve",
        )  # fmt: skip


def _adapter_in_llama_cpp(
    config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Remark]:
    if config.get("use_dora"):
        yield Remark("llama.cpp", "refuses", "DoRA: its adapters have no magnitudes", "--to gguf")
    if config.get("modules_to_save"):
        yield Remark("llama.cpp", "refuses", "modules trained whole beside A and B", "--to gguf")
    if config.get("use_rslora") or config.get("alpha_pattern"):
        yield Remark(
            "llama.cpp", "gets wrong",
            "the scale, by its own convert_lora_to_gguf.py, which reads one lora_alpha",
            "--to gguf-adapter folds the scale into B",
        )  # fmt: skip


# -- whole models


def check_model(folder: Path) -> Checked:
    """What each tool makes of a whole model in safetensors."""

    def unreadable(why: str) -> ModelError:
        return ModelError(f"{folder} cannot be read", why=why, fix="export it again")

    config = read_object(folder / "config.json", unreadable)
    shapes = read_tensors(folder).shapes
    remarks = [
        *_sizes(config, shapes),
        *_ends(folder, config, unreadable),
        *_template(folder, unreadable),
        *_foreign(config),
    ]
    commands: dict[Tool, str] = {
        "vllm": f"vllm serve {folder}",
        "sglang": f"python -m sglang.launch_server --model-path {folder}",
        "mlx": f"mlx_lm.server --model {folder}",
    }
    if config.get("model_type") in ARCHITECTURES:
        commands["llama.cpp"] = (
            f"luthier export {folder} --to gguf --output gguf, then llama-server -m gguf/model-bf16.gguf"
        )
        commands["ollama"] = (
            f"luthier export {folder} --to ollama --output ollama, then "
            "ollama create tuned -f ollama/Modelfile"
        )
        commands["lmstudio"] = "lms import --user-repo you/tuned gguf/model-bf16.gguf"
    else:
        kind = config.get("model_type")
        what = f"model_type {kind} is not written as GGUF here"
        fix = "llama.cpp's convert_hf_to_gguf.py may know it"
        remarks.append(Remark("llama.cpp", "note", what, fix))
    return Checked(folder, "model", remarks, commands)


def _sizes(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Remark]:
    rows = config.get("vocab_size")
    for name, shape in shapes.items():
        if name.endswith(("embed_tokens.weight", "lm_head.weight")) and shape[0] != rows:
            what = f"{name} has {shape[0]} rows and the config says vocab_size {rows}"
            yield Remark("vllm", "refuses", what, "set vocab_size to the rows of the weights")
            yield Remark("llama.cpp", "refuses", what, "set vocab_size to the rows of the weights")


def _ends(folder: Path, config: Mapping[str, Any], unreadable: Any) -> Iterator[Remark]:
    """The token that the template ends answers with has to end an answer everywhere."""
    if not (folder / "tokenizer_config.json").is_file():
        return
    said = read_object(folder / "tokenizer_config.json", unreadable)
    eos = said.get("eos_token")
    text = eos.get("content") if isinstance(eos, Mapping) else eos
    path = folder / "generation_config.json"
    generation = read_object(path, unreadable) if path.is_file() else config
    ends = generation.get("eos_token_id")
    if ends is None:
        yield Remark(
            "vllm", "gets wrong", "no eos_token_id in generation_config.json: answers may not stop",
            "luthier export writes every end that was learned",
        )  # fmt: skip
    if text is None:
        yield Remark(
            "llama.cpp", "gets wrong", "the tokenizer names no eos_token", "name the end of a turn"
        )


def _template(folder: Path, unreadable: Any) -> Iterator[Remark]:
    path = folder / "tokenizer_config.json"
    inside = read_object(path, unreadable).get("chat_template") if path.is_file() else None
    beside = folder / "chat_template.jinja"
    own = beside.read_text("utf-8") if beside.is_file() else None
    if own is None and inside is None:
        for tool in ("vllm", "sglang", "mlx"):
            yield Remark(
                tool, "refuses", "chat requests: there is no chat template", "--chat-template FILE"
            )
    if own is not None and isinstance(inside, str) and own != inside:
        yield Remark(
            "vllm", "gets wrong", "two chat templates that differ, in tokenizer_config.json and beside it",
            "keep the one of the training",
        )  # fmt: skip


def _foreign(config: Mapping[str, Any]) -> Iterator[Remark]:
    if config.get("auto_map"):
        yield Remark(
            "vllm",
            "refuses",
            "code of the model's own without --trust-remote-code",
            "leave auto_map out",
        )
    if config.get("quantization_config"):
        for tool in ("llama.cpp", "mlx"):
            yield Remark(
                tool, "refuses", "weights that are quantised already", "--to merged dequantises"
            )


# -- Modelfiles


def check_modelfile(path: Path) -> Checked:
    """What Ollama makes of a Modelfile, by the rules of its documentation."""
    text = path.read_text("utf-8")
    bare = re.sub(r'"""(.*?)"""', lambda match: '"' + " " * len(match[1]) + '"', text, flags=re.S)
    lines = [
        line.split(None, 1)
        for line in bare.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    words = [line[0].upper() for line in lines]
    remarks = [
        Remark("ollama", "refuses", f"{line[0]}, which is no instruction", "see docs/modelfile.md")
        for line, word in zip(lines, words, strict=True)
        if word not in MODELFILE_WORDS
    ]
    values = {
        word: [line[1].strip() for line in lines if line[0].upper() == word and len(line) > 1]
        for word in words
    }
    remarks += [*_from(path, values), *_parameters(values), *_written_template(text, words)]
    if "ADAPTER" in words:
        remarks.append(
            Remark("ollama", "refuses", "ADAPTER, since 0.34.1", "--to ollama merges it")
        )
    return Checked(path, "modelfile", remarks, {"ollama": f"ollama create tuned -f {path}"})


def _from(path: Path, values: Mapping[str, list[str]]) -> Iterator[Remark]:
    named = values.get("FROM", [])
    if len(named) != 1:
        yield Remark("ollama", "refuses", f"{len(named)} lines with FROM", "one names the model")
        return
    if not named[0].startswith((".", "/")):
        return
    file = path.parent / named[0]
    if not file.is_file():
        yield Remark(
            "ollama", "refuses", f"{named[0]} is not there", "name the GGUF file beside it"
        )
    else:
        with file.open("rb") as stream:
            magic = stream.read(4)
        if magic != b"GGUF":
            yield Remark(
                "ollama", "refuses", f"{named[0]} is no GGUF file", "--to ollama writes one"
            )


def _parameters(values: Mapping[str, list[str]]) -> Iterator[Remark]:
    said = [value.split(None, 1) for value in values.get("PARAMETER", [])]
    for name, *_ in said:
        if name not in MODELFILE_PARAMETERS:
            yield Remark(
                "ollama",
                "refuses",
                f"PARAMETER {name}",
                f"it knows {', '.join(MODELFILE_PARAMETERS)}",
            )
    names = {name for name, *_ in said}
    if "stop" not in names:
        yield Remark(
            "ollama",
            "gets wrong",
            "no PARAMETER stop: answers may not stop",
            "add the end of a turn",
        )
    if "num_ctx" not in names:
        yield Remark(
            "ollama", "gets wrong", "no PARAMETER num_ctx: longer dialogues are cut", "add num_ctx"
        )


def _written_template(text: str, words: list[str]) -> Iterator[Remark]:
    if "TEMPLATE" not in words:
        yield Remark(
            "ollama",
            "gets wrong",
            "no TEMPLATE: the model gets the bare question",
            "--to ollama writes one",
        )
    elif not re.search(r"\.Messages|\.Prompt", text):
        yield Remark(
            "ollama", "gets wrong", "the TEMPLATE has no place for a question", "use .Messages"
        )
    if "{{-" in text or "-}}" in text:
        yield Remark(
            "ollama",
            "gets wrong",
            "{{- and -}} take away line breaks of the template",
            "use {{ and }}",
        )
