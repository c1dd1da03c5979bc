"""One real run, and the most bytes that torch's CPU allocator held in it; a process of its own.

Reads a configuration on standard input, trains, and prints one line of JSON: the peak by the
allocator's own record (`torch.profiler`, `profile_memory`), the peak resident size of the process,
where the peak was, and the shapes of the micro-batches that ran.  The planner's tracker has no part
in it.
"""

import json
import random
import resource
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tests.tiny import tiny_config, tiny_tokenizer

from luthier.config import read
from luthier.config.settings import Settings
from luthier.engine import optim
from luthier.planner.data_shape import DataShape
from luthier.planner.device import Device
from luthier.planner.plan import Plan, plan
from luthier.recipes.exact.dry_run import BatchShape, worst_step
from luthier.recipes.run import assembly, rank
from luthier.recipes.run import train as training
from luthier.recipes.run.steps import EvalSource, StepSource

WORDS = [
    "to",
    "of",
    "and",
    "in",
    "is",
    "for",
    "on",
    "that",
    "with",
    "by",
    "as",
    "at",
    "from",
    "this",
    "be",
    "are",
    "or",
    "an",
    "it",
    "was",
]


def model_folder(path: Path, family: str, fields: dict[str, Any], saved: bool) -> Path:
    """A folder with config and tokenizer, and weights where the run is to read some."""
    config = tiny_config(family, **fields)
    config.architectures = None
    tiny_tokenizer(path)
    if saved:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        model.save_pretrained(path)
    else:
        config.save_pretrained(path)
    return path


def write_rows(path: Path, objective: str, length: int, count: int, seed: int) -> Path:
    """Rows of about `length` bytes each, which the tokenizer of the folder counts as tokens."""
    draw = random.Random(seed)

    def text(size: int) -> str:
        words = ""
        while len(words) < size:
            words += draw.choice(WORDS) + " "
        return words[:size]

    rows: list[dict[str, str]] = []
    for _ in range(count):
        size = max(20, int(length * draw.uniform(0.6, 1.0)) - 40)
        ask, answer = text(size * 2 // 5), text(size * 3 // 5)
        if objective == "dpo":
            rows.append({"prompt": ask, "chosen": answer, "rejected": text(size * 2 // 5)})
        else:
            rows.append({"instruction": ask, "output": answer})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


class Watch:
    """Notes the phases of a run and the shapes it computes, by standing around its functions."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, str]] = [(0, "loading")]
        self.steps: list[list[BatchShape]] = []
        self.evaluation: list[dict[str, Any]] = []
        self.pairs: list[dict[str, Any]] = []
        self.inputs: Any = None

    def mark(self, phase: str) -> None:
        """From now on."""
        self.marks.append((time.time_ns(), phase))

    def around(self, place: Any, name: str, phase: str, after: str | None = None) -> None:
        """Mark a phase whenever a function is called."""
        real: Callable[..., Any] = getattr(place, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.mark(phase)
            result = real(*args, **kwargs)
            if after:
                self.mark(after)
            return result

        setattr(place, name, noted)

    def install(self) -> None:
        """Stand around the functions of the run."""
        self.around(assembly, "evaluate", "evaluation", "other")
        self.around(assembly, "reference_values", "reference", "other")
        self.around(rank, "write_result", "saving")
        self.around(rank.Keeper, "save", "saving", "other")
        self.around(optim.Updater, "allocate", "optimiser state")
        self.around(optim.Updater, "prepare", "optimiser step")
        self.around(torch.Tensor, "backward", "step backward")
        self.around(StepSource, "plan", "step forward")
        self._keep_shapes(StepSource)
        self._keep_shapes(EvalSource)
        self._watch_pairs()
        read_data = rank.prepare.read_data

        def read(*args: Any) -> Any:
            self.inputs = read_data(*args)
            return self.inputs

        rank.prepare.read_data = read

    def _keep_shapes(self, source: type[StepSource | EvalSource]) -> None:
        real = source.plan

        def shaped(one: Any, number: int) -> Any:
            step = real(one, number)
            shapes = [BatchShape.of(batch.packed) for batch in step.batches]
            if source is StepSource:
                self.steps.append(shapes)
            else:
                self.evaluation = [asdict(shape) for shape in shapes]
            return step

        setattr(source, "plan", shaped)  # noqa: B010

    def _watch_pairs(self) -> None:
        from luthier.recipes.run import reference

        real = reference.pack

        def packed(*args: Any, **kwargs: Any) -> Any:
            batch = real(*args, **kwargs)
            self.pairs.append(asdict(BatchShape.of(batch)))
            return batch

        reference.pack = packed


def peaks(profile: Any, watch: Watch) -> tuple[int, str, dict[str, int]]:
    """Most bytes held, where, and in each phase, from the allocator's events."""
    events = [
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    starts = [start for start, _ in watch.marks]
    held, by_phase = 0, dict.fromkeys((phase for _, phase in watch.marks), 0)
    for moment, size in sorted(events, key=lambda event: event[0]):
        held += size
        phase = watch.marks[bisect_right(starts, moment) - 1][1]
        by_phase[phase] = max(held, by_phase[phase])
    where = max(by_phase, key=lambda phase: by_phase[phase])
    return by_phase[where], where, by_phase


def closed_form(settings: dict[str, Any], config: dict[str, Any], inputs: Any) -> Plan:
    """The instant plan of the same run, from its rendered rows."""
    return plan(
        Settings.model_validate(settings, context={"given": set()}),
        config,
        DataShape.of(inputs.train, inputs.held_out),
        Device.parse("cpu 24GB"),
    )


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Train as asked, in a folder of its own that is removed."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        settings = dict(asked["settings"])
        model = model_folder(
            here / "model", asked["family"], asked["fields"], not settings.get("from_scratch")
        )
        objective = settings.get("objective", "sft")
        rows = write_rows(here / "rows.jsonl", objective, asked["length"], asked["rows"], 1)
        held = write_rows(here / "held.jsonl", objective, asked["length"], asked["held"], 2)
        settings |= {"model": str(model), "dataset": str(rows), "eval_dataset": str(held)}
        settings |= {"output_dir": str(here / "run"), "seq_length": asked["length"]}
        watch = Watch()
        watch.install()
        started = time.monotonic()
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            training.run(read.load(settings))
        seconds = time.monotonic() - started
        resolved = json.loads((here / "run" / "settings.json").read_text())["settings"]
        config = json.loads((model / "config.json").read_text())
    most, where, by_phase = peaks(profile, watch)
    closed = closed_form(resolved, config, watch.inputs)
    pair = max(watch.pairs, key=lambda s: s["nodes"][-1][1], default=None)
    return {
        "measured_bytes": most,
        "measured_where": where,
        "measured_phases": by_phase,
        "closed_bytes": closed.allocated_bytes,
        "closed_where": closed.peak_where,
        "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seconds": seconds,
        "settings": resolved,
        "config": config,
        "batches": [asdict(shape) for shape in worst_step(watch.steps)],
        "evaluation": watch.evaluation,
        "reference": pair,
        "micro_batches": sum(map(len, watch.steps)),
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.stdin.read()))))
