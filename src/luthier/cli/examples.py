"""Examples of every command, shown under its help; a test reads each with the real command line."""

from typing import Any

import typer

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("luthier demo", "luthier demo --output-dir runs/first-try"),
    "advise": (
        "luthier advise --model starter --dataset rows.jsonl --output run.yaml",
        "luthier advise --model qwen3-4b --dataset rows.csv --device 'T4 16GB' --lang id",
    ),
    "plan": (
        "luthier plan --model qwen3-4b --dataset rows.jsonl --method qlora",
        "luthier plan run.yaml --device 'T4 16GB'",
        "luthier plan --model qwen3-4b --dataset rows.jsonl --batches",
    ),
    "train": (
        "luthier train --model starter --dataset rows.jsonl --eval_split 0.1",
        "luthier train run.yaml --learning_rate 1e-4",
        "luthier train --resume true --output_dir runs/my-run",
    ),
    "chat": ("luthier chat runs/my-run", "luthier chat starter --prompt 'Good morning'"),
    "compare": (
        "luthier compare starter runs/my-run --dataset held-out.jsonl --report report.html",
        "luthier compare starter runs/my-run --prompt 'Good morning'",
    ),
    "eval": (
        "luthier eval runs/my-run --dataset held-out.jsonl --report report.html",
        "luthier eval runs/my-run --dataset held-out.jsonl --metrics rouge_l,chrf",
    ),
    "export": (
        "luthier export runs/my-run --to merged --output my-model",
        "luthier export runs/my-run --to adapter --output my-adapter",
    ),
    "serve": ("luthier serve", "luthier serve --port 9000 --no-browser"),
    "doctor": ("luthier doctor",),
    "data check": (
        "luthier data check rows.jsonl --model starter",
        "luthier data check rows.csv --columns prompt=question,completion=answer",
    ),
    "data fix": ("luthier data fix rows.csv --output rows-fixed.jsonl",),
    "data show": ("luthier data show rows.jsonl --row 3 --model starter",),
    "data estimate": ("luthier data estimate rows.jsonl --model qwen3-4b",),
    "data formats": ("luthier data formats",),
    "gallery list": ("luthier gallery list --max-params 2B --fits qlora",),
    "gallery show": ("luthier gallery show starter",),
    "gallery pull": ("luthier gallery pull smollm2-135m-instruct",),
    "gallery add": ("luthier gallery add models/my-model --name mine",),
    "gallery forget": ("luthier gallery forget mine",),
    "runs list": ("luthier runs list",),
    "runs show": ("luthier runs show runs/my-run",),
    "runs follow": ("luthier runs follow runs/my-run",),
    "jobs list": ("luthier jobs list --state running,queued",),
    "jobs show": ("luthier jobs show 3fk2",),
    "jobs submit": ("luthier jobs submit run.yaml --name 'first try'",),
    "jobs cancel": ("luthier jobs cancel 3fk2",),
    "jobs pause": ("luthier jobs pause 3fk2",),
    "jobs resume": ("luthier jobs resume 3fk2",),
    "jobs retry": ("luthier jobs retry 3fk2",),
    "jobs clone": ("luthier jobs clone 3fk2",),
    "jobs follow": ("luthier jobs follow 3fk2",),
    "jobs logs": ("luthier jobs logs 3fk2 --lines 50",),
}


def add_examples(app: typer.Typer, before: tuple[str, ...] = ()) -> None:
    """Put its examples under the help of every command of an application.

    The list of commands gets the whole first sentence of each: click would cut it to a line.
    """
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "").strip("_")
        command.epilog = _epilog(" ".join((*before, name)))
        command.short_help = _first_sentence(command.help or command.callback.__doc__ or "")
    for group in app.registered_groups:
        if isinstance(inner := group.typer_instance, typer.Typer):
            group.short_help = str(inner.info.help)
            add_examples(inner, (*before, group.name or ""))


def _epilog(name: str) -> Any:
    shown = "\n".join(f"  {example}" for example in EXAMPLES[name])
    return f"\b\nExamples:\n{shown}"


def _first_sentence(text: str) -> str:
    first = " ".join(text.split("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".") + "."
