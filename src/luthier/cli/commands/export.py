"""`luthier export`: an adapter, a merged model, GGUF files or a Modelfile in a folder that other tools open."""

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.options import AsJson

Name = Annotated[
    str,
    typer.Argument(help="A run or an adapter folder; with --check anything.", show_default=False),
]
To = Annotated[
    str | None,
    typer.Option(help="adapter, merged, gguf, gguf-adapter or ollama.", show_default=False),
]
Output = Annotated[
    Path | None, typer.Option(help="A folder that does not exist yet.", show_default=False)
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Say what other tools refuse or get wrong in a folder or file; write nothing.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        help="Precision of a merged model: float32, bfloat16, float16; auto: that of the training."
    ),
]
TARGETS = ("adapter", "merged", "gguf", "gguf-adapter", "ollama")
QUANTS = ("auto", "f32", "f16", "bf16", "q8_0")
Quant = Annotated[
    str, typer.Option(help="Storage of a GGUF file: f32, f16, bf16, q8_0; auto: bf16 or f16.")
]


NoProof = Annotated[
    bool,
    typer.Option("--no-proof", help="Do not open the folder in transformers before it is there."),
]


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command()(export)


def export(
    name: Name,
    to: To = None,
    output: Output = None,
    torch_dtype: Dtype = "auto",
    quant: Quant = "auto",
    no_proof: NoProof = False,
    check: Check = False,
    as_json: AsJson = False,
) -> None:
    """Write the result of a run for use elsewhere: the adapter, or base and adapter in one."""
    import os

    from luthier.cli.drawing import render
    from luthier.recipes.before.proof_wanted import SKIP, skips_proof

    if check:
        check_there(name, as_json=as_json)
        return
    if to is None or output is None:
        raise _says_nothing(name)
    if no_proof:
        os.environ[SKIP] = "1"
    skips_proof()
    check_asked(name, to, output, torch_dtype, quant)
    from luthier.recipes.after.export import export_adapter, export_merged

    if to == "adapter":
        found = export_adapter(name, output)
    elif to == "gguf":
        from luthier.recipes.after.export_gguf import export_gguf

        found = export_gguf(name, output, quant=quant)
    elif to == "gguf-adapter":
        from luthier.recipes.after.export_gguf import export_gguf_adapter

        found = export_gguf_adapter(name, output, quant=quant)
    elif to == "ollama":
        from luthier.recipes.after.export_ollama import export_ollama

        found = export_ollama(name, output, quant=quant)
    else:
        found = export_merged(name, output, torch_dtype=torch_dtype)
    render.facts(_plain(found.as_dict()), as_json=as_json)


def check_there(name: str, *, as_json: bool) -> None:
    """Print what other tools make of a folder or file.

    Exit status 2 where one would answer wrongly without an error, or where none can serve it.
    """
    from luthier.cli.drawing.draw_remarks import draw_remarks
    from luthier.cli.extras import require_gguf
    from luthier.exchange.lint import check_path

    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        require_gguf()
    found = check_path(path)
    draw_remarks(found, as_json=as_json)
    if not found.commands or any(one.effect == "gets wrong" for one in found.remarks):
        raise typer.Exit(2)


def _says_nothing(name: str) -> Exception:
    from luthier.errors import UsageError

    return UsageError(
        f"export {name} without --to and --output",
        why="it says neither what is made nor where it goes",
        fix=f"luthier export {name} --to merged --output FOLDER; or --check, which writes nothing",
    )


def check_asked(name: str, to: str, output: Path, torch_dtype: str, quant: str) -> None:
    """Refuse what cannot be meant before anything is loaded."""
    from luthier.errors import RunExistsError, UsageError

    if to in ("gguf", "gguf-adapter", "ollama"):
        from luthier.cli.extras import require_gguf

        require_gguf()
        check_quant(name, to, quant)
    elif quant != "auto":
        raise UsageError(
            f"--quant {quant} with --to {to}",
            why="only a GGUF file is stored in another type",
            fix=f"--to gguf --quant {quant}",
        )
    if to not in TARGETS:
        raise UsageError(f"--to {to}", why=f"{', '.join(TARGETS)} are possible", fix="--to merged")
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


def check_quant(name: str, to: str, quant: str) -> None:
    """Refuse a storage type that is not offered, with what to do for the k-quants of llama.cpp."""
    from luthier.errors import UsageError

    if to == "gguf-adapter" and quant not in ("auto", "f32", "f16"):
        raise UsageError(
            f"--quant {quant} with --to gguf-adapter",
            why="an adapter is small, and is stored as f32 or f16",
            fix="leave --quant out",
        )
    if quant not in QUANTS:
        raise UsageError(
            f"--quant {quant}",
            why=f"{', '.join(QUANTS)} are written here; llama.cpp makes k-quants from f16 or bf16",
            fix=f"luthier export {name} --to gguf --quant f16 --output FOLDER, then "
            f"llama-quantize FOLDER/model-f16.gguf model-{quant}.gguf {quant.upper()}",
        )


def _plain(found: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in found.items() if value not in (None, (), [])}
