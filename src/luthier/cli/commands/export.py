"""`luthier export`: an adapter or a merged model in a folder that other tools open."""

from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli.options import AsJson

Name = Annotated[str, typer.Argument(help="A run or an adapter folder.", show_default=False)]
To = Annotated[str, typer.Option(help="adapter or merged.", show_default=False)]
Output = Annotated[Path, typer.Option(help="A folder that does not exist yet.", show_default=False)]
Dtype = Annotated[
    str,
    typer.Option(
        help="Precision of a merged model: float32, bfloat16, float16; auto: that of the training."
    ),
]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command()(export)


def export(
    name: Name, to: To, output: Output, torch_dtype: Dtype = "auto", as_json: AsJson = False
) -> None:
    """Write the result of a run for use elsewhere: the adapter, or base and adapter in one."""
    from luthier.cli.drawing import render

    check(name, to, output, torch_dtype)
    from luthier.recipes.after.export import export_adapter, export_merged

    if to == "adapter":
        found = export_adapter(name, output)
    else:
        found = export_merged(name, output, torch_dtype=torch_dtype)
    render.facts(_plain(found.as_dict()), as_json=as_json)


def check(name: str, to: str, output: Path, torch_dtype: str) -> None:
    """Refuse what cannot be meant before anything is loaded."""
    from luthier.errors import RunExistsError, UsageError

    if to == "gguf":
        raise UsageError(
            "--to gguf is not offered yet",
            why="luthier writes safetensors, as adapter or merged; llama.cpp converts both to GGUF",
            fix=f"luthier export {name} --to merged --output {output}, "
            f"then in llama.cpp: python convert_hf_to_gguf.py {output}",
        )
    if to not in ("adapter", "merged"):
        raise UsageError(f"--to {to}", why="adapter and merged are possible", fix="--to merged")
    if torch_dtype not in ("auto", "float32", "bfloat16", "float16"):
        raise UsageError(
            f"--torch-dtype {torch_dtype}",
            why="auto, float32, bfloat16 and float16 are possible",
            fix="--torch-dtype bfloat16",
        )
    if output.exists() or output.is_symlink():
        raise RunExistsError(
            f"{output} already exists",
            why="an export is a new folder; nothing is overwritten",
            fix=f"--output {output}-2",
        )


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value not in (None, (), [])}
