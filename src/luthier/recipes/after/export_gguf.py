"""Write the result of a run as one GGUF file: for llama.cpp, Ollama, LM Studio and what builds on them.

The merged model is written beside the goal first, then converted tensor by tensor and removed; the
file is read back and compared with it before it is published.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from luthier.bounded import decode
from luthier.durable import DurableFolder
from luthier.exchange.gguf_adapter import write_gguf_adapter
from luthier.exchange.gguf_file import Quant, check_gguf, write_gguf
from luthier.exchange.gguf_shapes import architecture_of, context_of, numbers_of
from luthier.recipes.after.export import Exported, adapter_of, export_merged
from luthier.sources.adapter_config import WEIGHTS
from luthier.sources.source import ModelSource, resolve_source

_FROM_DTYPE: dict[str, Quant] = {"float32": "f16", "float16": "f16", "bfloat16": "bf16"}
_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 1.07}


Beside = Callable[[str], Mapping[str, str]]
"""Further files of the folder, by name, for the GGUF file of a name."""


def export_gguf(
    name: str, output: Path, *, quant: str = "auto", beside: Beside = lambda file: {}
) -> Exported:
    """One GGUF file in a new folder, with a page that says how to use it and what was proven.

    Args:
        name: A run, an adapter or a model folder.
        quant: `f32`, `f16`, `bf16` or `q8_0`; `auto` is `bf16` where the merged weights are, else
            `f16`.

    Raises:
        ArchitectureError: llama.cpp's form of this model is not known here.
        TokenizerError: llama.cpp could not make the same ids.
        AdapterError: As for a merged model.
        RunExistsError: `output` exists.
    """
    source = resolve_source(name)
    architecture_of(source.config)
    numbers_of(source.config)
    whole = source.adapter is None and source.run is None
    merged = None if whole else output.parent / f".{output.name}.merged"
    try:
        if merged is None:
            made = Exported(source.base, "model", 0, source.name)
        else:
            shutil.rmtree(merged, ignore_errors=True)  # of an export that was cut off
            made = export_merged(name, merged)
        return _convert(made, source, output, quant, beside)
    finally:
        if merged is not None:
            shutil.rmtree(merged, ignore_errors=True)


def export_gguf_adapter(name: str, output: Path, *, quant: str = "auto") -> Exported:
    """The adapter alone as a GGUF file, for llama.cpp beside the base's own GGUF.

    Args:
        name: A run with an adapter, or an adapter folder.
        quant: `f32` or `f16`; `auto` is `f32`.

    Raises:
        ArchitectureError: llama.cpp's form of the base is not known here.
        AdapterError: There is no adapter, or it has a part that llama.cpp has no form for.
        RunExistsError: `output` exists.
    """
    source = resolve_source(name)
    adapter = adapter_of(name, source)
    size = (adapter / WEIGHTS).stat().st_size
    half = quant == "f16"
    file = f"adapter-{'f16' if half else 'f32'}.gguf"
    with DurableFolder(output, kind="gguf", needed_bytes=size + 2**24) as new:
        title = Path(source.name).name
        layers = write_gguf_adapter(adapter, source.config, new.path / file, half=half, name=title)
        base = source.base_for_others
        new.write("README.md", _ADAPTER_PAGE.format(file=file, base=base, layers=layers))
        written = (new.path / file).stat().st_size
    said = f"{layers} layers were read back; llama.cpp puts them on the GGUF of {base}, as trained"
    return Exported(
        output, "gguf", written, base, "float16" if half else "float32", notices=(said,)
    )


_ADAPTER_PAGE = """# {file}

{layers} adapted layers, made by luthier for {base}.

```
luthier export {base} --to gguf --output base           # its GGUF, once for all adapters
llama-server -m base/model-bf16.gguf --lora {file}      # or model-f16.gguf
```

Give llama.cpp the GGUF of exactly this base; on another, or on one in few bits, the answers differ from the training.
Ollama no longer takes adapters, and LM Studio never did: for them `--to gguf` merges.

The file was read back and compared.  That a real llama.cpp gives the log-probabilities of PEFT with such a file is
proven in the project's tests, for this architecture.
"""


def _convert(
    made: Exported, source: ModelSource, output: Path, asked: str, beside: Beside
) -> Exported:
    config = decode((made.path / "config.json").read_text("utf-8"))
    dtype = made.torch_dtype or str(config.get("dtype") or config.get("torch_dtype"))
    quant = _FROM_DTYPE.get(dtype, "f16") if asked == "auto" else cast(Quant, asked)
    weights = sum(path.stat().st_size for path in made.path.glob("*.safetensors"))
    needed = int(weights / (4 if dtype == "float32" else 2) * _BYTES[quant]) + 2**25
    with DurableFolder(output, kind="gguf", needed_bytes=needed) as new:
        target = new.path / f"model-{quant}.gguf"
        write_gguf(made.path, target, quant=quant, name=Path(source.name).name)
        worst = check_gguf(made.path, target)
        size = target.stat().st_size
        for file, text in beside(target.name).items():
            new.write(file, text)
        new.write("README.md", _page(source, target.name, worst))
    notices = list(made.notices)
    if (context := context_of(config)) < config["max_position_embeddings"]:
        notices.append(
            f"the file says a context of {context} positions: llama.cpp has no sliding window "
            "for this architecture, and behind the window it would answer differently"
        )
    return Exported(
        output, "gguf", size, made.base, quant, made.merge_error, made.adapter_effect,
        made.measured_on, tuple(notices),
    )  # fmt: skip


def _page(source: ModelSource, file: str, worst: dict[str, float]) -> str:
    proven = ", ".join(f"{kind}: {share:.2f}" for kind, share in sorted(worst.items()))
    return f"""# {file}

Made by luthier from {source.name}.

```
llama-server -m {file}        # llama.cpp, with the chat template of the training
```

**Ollama**: `luthier export RUN --to ollama` writes the Modelfile beside it, without whose `TEMPLATE` and `stop` it
neither follows the template nor ends an answer; then `ollama create tuned -f Modelfile`.  **LM Studio**: `lms import --user-repo you/model {file}`.

## What was proven

Every tensor was read back and compared with the merged model.  The largest difference, as a share of what
rounding to its type may lose: {proven}.  Token ids and answers were not compared with a llama.cpp here; the
project's tests do that for this architecture.

Text of a user that looks like a control token is read as one by llama.cpp's chat, as by every runner that takes
a rendered text.
"""
