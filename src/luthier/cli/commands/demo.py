"""`luthier demo`: the whole way on the built-in model and data, offline."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from luthier.recipes.demo import DemoResult
    from luthier.runs.ended import RunResult

OutputDir = Annotated[
    Path | None,
    typer.Option("--output-dir", help="Where both runs go; else runs/<date>-demo."),
]
TITLES = {
    "data": "What the data becomes: the first training row (learned text between « and »)",
    "sft": "Supervised fine-tuning with LoRA",
    "answers": "Held-out questions, asked of base and tuned model",
    "dpo": "Preference tuning (DPO) on top of it",
}


def register(app: typer.Typer, asked: str | None) -> None:
    """Add the command."""
    app.command()(demo)


def demo(output_dir: OutputDir = None) -> None:
    """Fine-tune the built-in model on built-in data and look at the difference; offline."""
    from luthier.cli.drawing.watcher import RunDisplay
    from luthier.recipes.demo import run_demo

    folder = output_dir or _free_folder()
    with RunDisplay(brief=True) as watcher:
        found = run_demo(folder, on_event=watcher.on_event, on_stage=_stage(watcher))
    _summary(found, folder)
    for ended in (found.sft, found.dpo):
        if ended.exit_code:
            raise typer.Exit(ended.exit_code)


def _free_folder() -> Path:
    from datetime import datetime

    first = Path("runs") / f"{datetime.now().astimezone():%Y-%m-%d}-demo"
    folder, number = first, 2
    while folder.exists():
        folder, number = first.with_name(f"{first.name}-{number}"), number + 1
    return folder


def _stage(watcher: Any) -> Any:
    from luthier.cli.drawing import render

    def show(stage: str, facts: dict[str, Any]) -> None:
        watcher.title(TITLES[stage])
        if stage == "data":
            watcher.say(render.marked(facts["pieces"]))
        elif stage == "answers":
            for row in facts["examples"]:
                watcher.side_by_side(
                    row.question, ["wanted", "base", "tuned"], [row.wanted, row.base, row.tuned]
                )
            before, after = facts["exact"]
            watcher.say(f"exactly right: {before} of {facts['total']} before, {after} after")

    return show


def _summary(found: "DemoResult", folder: Path) -> None:
    from luthier.cli.drawing import next_steps, render

    rows = [
        *_changes("SFT", found.sft, {"loss": "held-out loss", "accuracy": "token accuracy"}),
        {
            "stage": "SFT",
            "measured on held-out rows": "answers exactly right",
            "before": f"{found.exact_before} of {found.num_questions}",
            "after": f"{found.exact_after} of {found.num_questions}",
        },
        *_changes(
            "DPO",
            found.dpo,
            {
                "loss": "loss",
                "logps_accuracy": "preferred answer is the likelier one",
                "accuracy": "preference accuracy (against the reference)",
            },
        ),
    ]
    render.line("")
    render.table(rows, as_json=False)
    render.line(f"\nwritten to {folder}")
    run = next_steps.word(folder / "sft")
    next_steps.show(
        [
            (f"luthier chat {run}", "talk to it; /compare TEXT asks the base too"),
            ("luthier serve", "the same on a page: data, jobs, charts, chat"),
            ("luthier data formats", "how rows of your own may be written"),
        ]
    )


def _changes(stage: str, ended: "RunResult", names: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "measured on held-out rows": title,
            "before": ended.before[name],
            "after": ended.last[name],
        }
        for name, title in names.items()
        if name in ended.before and name in ended.last
    ]
