"""What other tools make of a folder or file, as lines."""

import dataclasses

from luthier.cli.drawing import render
from luthier.exchange.lint import Checked

TITLES = {
    "vllm": "vLLM", "sglang": "SGLang", "llama.cpp": "llama.cpp", "ollama": "Ollama", "mlx": "MLX",
    "lmstudio": "LM Studio",
}  # fmt: skip


def draw_remarks(found: Checked, *, as_json: bool) -> None:
    """A block for each tool: what it refuses or gets wrong, then the command that serves it."""
    if as_json:
        render.dump({**dataclasses.asdict(found), "path": str(found.path)})
        return
    render.line(f"{found.path}: {found.kind}")
    for tool, title in TITLES.items():
        remarks = [one for one in found.remarks if one.tool == tool]
        command = found.commands.get(tool)  # type: ignore[call-overload]
        if not remarks and command is None:
            continue
        render.line("")
        render.line(title)
        for one in remarks:
            render.line(f"  {one.effect}: {one.what}")
            render.line(f"    {one.fix}")
        if command is not None:
            render.line(f"  {command}")
