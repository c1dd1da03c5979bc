"""The first command: fine-tune the built-in model on the built-in data, and look at the difference.

Everything shown is measured in the run itself; the held-out rows are instances and phrasings that
the training rows do not have (configs/starter/make_demo_data.py splits them and checks it).
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from luthier.bounded import decode
from luthier.config import read
from luthier.data.types import Conversation, Message, Origin
from luthier.events import Event
from luthier.inference.dialogue import Sampling
from luthier.recipes.after.open_model import Opened, open_model
from luthier.recipes.run.train import run
from luthier.runs.ended import RunResult

SFT: dict[str, object] = {
    "method": "lora",
    "objective": "sft",
    "lora_dim": 32,
    "learning_rate": 4e-3,
    "num_train_epochs": 4,
    "per_device_train_batch_size": 16,
    "lr_scheduler_type": "cosine",
}
DPO: dict[str, object] = {
    "method": "lora",
    "objective": "dpo",
    "dpo_beta": 0.1,
    "learning_rate": 3e-4,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 8,
}
SHOWN = 3
"""Held-out questions whose answers are put side by side."""


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One held-out question, the answer wanted, and the two given."""

    question: str
    wanted: str
    base: str
    tuned: str


@dataclass(frozen=True)
class DemoResult:
    """What `luthier demo` found."""

    sft: RunResult
    dpo: RunResult
    exact_before: int
    exact_after: int
    num_questions: int
    examples: list[SideBySide]


def data_file(name: str) -> Path:
    """A file of the built-in data, such as `sft_train.jsonl`."""
    return Path(str(files("luthier") / "starter" / "data" / name))


def run_demo(
    output_dir: Path,
    *,
    on_event: Callable[[Event], None],
    on_stage: Callable[[str, dict[str, object]], None],
) -> DemoResult:
    """SFT, then DPO on top, on the starter model.

    Args:
        output_dir: Gets `sft/` and `dpo/`, two run directories.
        on_stage: Told what begins, with what there is to show: `data`, `sft`, `answers`, `dpo`.
    """
    opened = open_model("starter")
    on_stage("data", {"pieces": first_row(opened), "file": str(data_file("sft_train.jsonl"))})
    on_stage("sft", {})
    sft = run(
        read.load(
            {
                "model": "starter",
                "dataset": str(data_file("sft_train.jsonl")),
                "eval_dataset": str(data_file("sft_eval.jsonl")),
                "output_dir": str(output_dir / "sft"),
                **SFT,
            }
        ),
        on_event=on_event,
    )
    examples = answers(sft.path)
    exact = [
        sum(row.base == row.wanted for row in examples),
        sum(row.tuned == row.wanted for row in examples),
    ]
    on_stage("answers", {"examples": examples[:SHOWN], "exact": exact, "total": len(examples)})
    on_stage("dpo", {})
    dpo = run(
        read.load(
            {
                "model": str(sft.path),
                "dataset": str(data_file("preference_train.jsonl")),
                "eval_dataset": str(data_file("preference_eval.jsonl")),
                "output_dir": str(output_dir / "dpo"),
                **DPO,
            }
        ),
        on_event=on_event,
    )
    return DemoResult(sft, dpo, exact[0], exact[1], len(examples), examples[:SHOWN])


def first_row(opened: Opened) -> list[tuple[str, float]]:
    """The first training row as the model sees it: stretches of text with their loss weight."""
    line = data_file("sft_train.jsonl").read_text("utf-8").splitlines()[0]
    messages = tuple(Message(m["role"], m["content"]) for m in decode(line)["messages"])
    pieces = opened.renderer.explain(Conversation(messages, Origin("sft_train.jsonl", 1)))[0]
    return [(piece.text, piece.weight) for piece in pieces]


def answers(run_directory: Path) -> list[SideBySide]:
    """Greedy answers of base and tuned model to every held-out question."""
    opened = open_model(str(run_directory))
    lines = data_file("sft_eval.jsonl").read_text("utf-8").splitlines()
    rows = [[m["content"] for m in decode(line)["messages"]] for line in lines]
    session = opened.chat(sampling=Sampling(max_new_tokens=32))
    given = session.compare_each([question for question, _ in rows])
    return [
        SideBySide(question, wanted, answer.base.strip(), answer.tuned.strip())
        for (question, wanted), answer in zip(rows, given, strict=True)
    ]
